package odograph.flink;

import static odograph.flink.Support.at;
import static odograph.flink.Support.checkpoint;
import static odograph.flink.Support.opened;
import static odograph.flink.Support.share;
import static odograph.flink.Support.taken;
import static odograph.flink.Support.text;
import static odograph.flink.Support.texts;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import org.apache.flink.runtime.checkpoint.OperatorSubtaskState;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.util.AbstractStreamOperatorTestHarness;
import org.apache.flink.streaming.util.KeyedOneInputStreamOperatorTestHarness;
import org.apache.flink.table.data.RowData;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class TerminalUploadsTest {
  private static final long KEEP_MS = 1_000_000;
  private static final long EVERY_MS = 5000;
  private static final long FLUSH_MS = 200;
  private static final long SOON_MS = EVERY_MS + FLUSH_MS;
  private static final long DEBOUNCE_MS = 30_000;
  private static final long REBOOT_MS = 600_000;
  private static final Layout DOSSIER = TerminalUploads.DOSSIER;
  private KeyedOneInputStreamOperatorTestHarness<String, RowData, byte[]> dossiers;

  private static KeyedOneInputStreamOperatorTestHarness<String, RowData, byte[]> subtask(
      OperatorSubtaskState from, int maxRows, int subtasks, int subtask) throws Exception {
    return opened(
        new TerminalUploads(KEEP_MS, maxRows, 1 << 20, EVERY_MS, DEBOUNCE_MS, REBOOT_MS),
        new Keys.Text(TerminalUploads.LAYOUT, "device_no"),
        Support.BLOCKS,
        from,
        subtasks,
        subtask);
  }

  @BeforeEach
  void open() throws Exception {
    dossiers = subtask(null, 10_000, 1, 0);
    at(dossiers, 0);
  }

  @AfterEach
  void close() throws Exception {
    dossiers.close();
  }

  private void send(Upload... uploads) throws Exception {
    for (Upload upload : uploads) {
      dossiers.processElement(new StreamRecord<>(upload.row()));
    }
  }

  private void later(long ms) throws Exception {
    at(dossiers, dossiers.getProcessingTime() + ms);
  }

  /** Until a terminal of few uploads was judged, and what was judged went on. */
  private void soon() throws Exception {
    later(EVERY_MS);
    later(FLUSH_MS);
  }

  /** Blocks that went on; each row as terminal, message and version. */
  private List<TreeSet<String>> out() {
    return out(dossiers);
  }

  private static List<TreeSet<String>> out(AbstractStreamOperatorTestHarness<byte[]> harness) {
    List<TreeSet<String>> blocks = new ArrayList<>();
    for (byte[] block : taken(harness)) {
      TreeSet<String> rows = new TreeSet<>();
      for (String text : texts(DOSSIER, block)) {
        String[] values = text.split(" ");
        rows.add(values[0] + " " + values[1] + " " + values[values.length - 1]);
      }
      blocks.add(rows);
    }
    return blocks;
  }

  private static List<TreeSet<String>> blocks(String... rows) {
    return List.of(new TreeSet<>(List.of(rows)));
  }

  private void isQuiet(Upload... uploads) throws Exception {
    send(uploads);
    soon();
    assertEquals(List.of(), out());
  }

  private void isJudged(Upload... uploads) throws Exception {
    send(uploads);
    soon();
    assertEquals(1, out().size());
  }

  private static Upload log(String message, long eventMs) {
    return Upload.log("t", message, eventMs);
  }

  private static Upload boot(String message, long eventMs) {
    return Upload.boot("t", message, eventMs);
  }

  /** What uploads said of minutes. */
  private List<String> said() {
    List<String> rows = new ArrayList<>();
    var said = dossiers.getSideOutput(TerminalUploads.firstParts());
    if (said != null) {
      said.forEach(one -> rows.add(text(VehicleMinutes.LAYOUT, one.getValue())));
      said.clear();
    }
    return rows;
  }

  @Test
  void whatAnUploadAddsToMinutesGoesOnAtOnce() throws Exception {
    send(Upload.gps("t", "a", 10).adds(1, "x", 2, "y"), Upload.gps("t", "b", 20));
    assertEquals(List.of("v 1 a t 0 x", "v 2 a t 0 y"), said());
  }

  @Test
  void aSecondCopyAddsNothing() throws Exception {
    send(Upload.gps("t", "a", 10).adds(1, "x"), Upload.gps("t", "a", 10).adds(1, "x"));
    send(Upload.gps("t", "a", 10).content(2).adds(2, "other"));
    assertEquals(List.of("v 1 a t 0 x"), said());
  }

  @Test
  void aCopyOfAForgottenUploadAddsAgain() throws Exception {
    send(Upload.gps("t", "a", 10).adds(1, "x"));
    said();
    later(KEEP_MS);
    send(Upload.gps("t", "a", 10).adds(1, "x"));
    assertEquals(List.of("v 1 a t 0 x"), said());
  }

  @Test
  void aDossierRemembersWhereAnUploadAddedSomethingAtFirst() throws Exception {
    send(log("a", 10).adds(1, "x"), log("b", 9).adds(2, "y"));
    soon();
    ArrowBlockReader rows = new ArrowBlockReader(DOSSIER, taken(dossiers).get(0), 0);
    List<Long> minutes = new ArrayList<>();
    for (int r = 0; r < rows.rows(); r++) {
      UploadPartials parts = new UploadPartials(rows.row(r).getBinary(DOSSIER.at("parts")));
      assertTrue(parts.next());
      assertEquals("v", parts.vehicle());
      assertEquals(0, parts.partial().length);
      minutes.add(parts.minute());
    }
    assertEquals(new TreeSet<>(List.of(1L, 2L)), new TreeSet<>(minutes));
  }

  @Test
  void historiesThatFindNoRoomInMemoryAreNotLost() throws Exception {
    dossiers.close();
    dossiers = subtask(null, 10_000, 1, 0);
    at(dossiers, 0);
    send(log("a", 10).odometer(100));
    for (int t = 0; t < 200_000; t++) {
      send(Upload.gps("other" + t, "a", 1));
    }
    isJudged(log("b", 20).odometer(99));
  }

  @Test
  void uploadsOfNoHistoryRuleAreQuiet() throws Exception {
    isQuiet(Upload.gps("t", "a", 100), Upload.gps("t", "b", 50), Upload.gps("t", "c", 100));
  }

  @Test
  void logsInOrderAreQuiet() throws Exception {
    isQuiet(
        log("a", 1).odometer(5).ignition(1),
        log("b", 2).odometer(5).ignition(1),
        log("c", 3).odometer(6),
        log("d", DEBOUNCE_MS + 1).odometer(7).ignition(0));
  }

  @Test
  void aLogThatComesLateIsJudged() throws Exception {
    isQuiet(log("a", 10));
    isJudged(log("b", 9));
  }

  @Test
  void aLogAtTheSameTimeIsJudged() throws Exception {
    isQuiet(log("a", 10));
    isJudged(log("b", 10));
  }

  @Test
  void aLowerOdometerIsJudged() throws Exception {
    isQuiet(log("a", 10).odometer(100));
    isJudged(log("b", 11).odometer(99));
  }

  @Test
  void anOdometerBelowThatOfALateLogIsJudged() throws Exception {
    isQuiet(log("a", 10).odometer(100));
    isJudged(log("b", 5).odometer(2000));
    isJudged(log("c", 11).odometer(150));
  }

  @Test
  void anOdometerIsRememberedAsLongAsItsUpload() throws Exception {
    isQuiet(log("a", 10).odometer(1000));
    later(KEEP_MS - 2 * SOON_MS);
    isJudged(log("b", 11).odometer(500));
    soon();
    isJudged(log("c", 12).odometer(400));
    isJudged(log("d", 13).odometer(450));
    later(KEEP_MS);
    isQuiet(log("e", 14).odometer(450));
    isJudged(log("f", 15).odometer(449));
  }

  @Test
  void anIgnitionThatDoesNotLastIsJudged() throws Exception {
    isQuiet(log("a", 10).ignition(1), log("b", 20).ignition(1));
    isJudged(log("c", 9 + DEBOUNCE_MS).ignition(0));
  }

  @Test
  void anIgnitionThatALateLogMayHaveChangedIsJudged() throws Exception {
    isQuiet(log("a", 10_000).ignition(1), log("b", 20_000).ignition(1));
    isJudged(log("c", 15_000).ignition(0));
    isJudged(log("d", 45_000).ignition(0));
  }

  @Test
  void aLogAfterOneOfTheSameTimeIsJudgedWhicheverCameFirst() throws Exception {
    isQuiet(log("a", 10_000).ignition(1));
    isJudged(log("b", 10_000).ignition(0));
    isJudged(log("c", 20_000).ignition(1));
  }

  @Test
  void bootsFarApartAreQuietAndNearOnesAreJudged() throws Exception {
    isQuiet(boot("a", 10), boot("b", 11 + REBOOT_MS));
    isJudged(boot("c", 11 + 2 * REBOOT_MS));
    isJudged(boot("d", 5));
  }

  @Test
  void aSuspectIsJudgedAndSoIsAllThatFollowsAsLongAsItIsRemembered() throws Exception {
    isQuiet(Upload.gps("t", "a", 10));
    isJudged(Upload.gps("t", "b", 11).suspect());
    later(KEEP_MS - SOON_MS - 1);
    isJudged(Upload.gps("t", "c", 12));
    isQuiet(Upload.gps("t", "d", 13));
  }

  @Test
  void noClockOfATerminalOrServerMakesASuspectForgotten() throws Exception {
    isJudged(Upload.gps("t", "a", 10).suspect());
    isJudged(Upload.gps("t", "b", 11 + 2 * KEEP_MS));
  }

  @Test
  void aCopyThatIsTheSameAndCameLaterIsQuiet() throws Exception {
    isQuiet(log("a", 10).odometer(5), log("b", 90_000), log("a", 10).odometer(5).received(95_000));
    isQuiet(log("c", 150_000).odometer(6));
  }

  @Test
  void aCopyThatDiffersIsJudged() throws Exception {
    isQuiet(Upload.gps("t", "a", 10));
    isJudged(Upload.gps("t", "a", 10).received(20).content(2));
  }

  @Test
  void aCopyThatWasReceivedEarlierIsJudged() throws Exception {
    isQuiet(Upload.gps("t", "a", 10).received(20));
    isJudged(Upload.gps("t", "a", 10).received(19));
  }

  @Test
  void aCopyReceivedAtTheSameTimeButAtAnEarlierPlaceIsJudged() throws Exception {
    isQuiet(Upload.gps("t", "a", 10).place(1, 5));
    isJudged(Upload.gps("t", "a", 10).place(1, 4));
    isJudged(Upload.gps("t", "a", 10).place(0, 9));
    isQuiet(Upload.gps("t", "a", 10).place(2, 1));
  }

  @Test
  void theFirstCopyIsRememberedAsLongAsAny() throws Exception {
    isQuiet(Upload.gps("t", "a", 10));
    later(KEEP_MS - 2 * SOON_MS);
    isQuiet(Upload.gps("t", "a", 10).received(20));
    later(2 * SOON_MS);
    isJudged(Upload.gps("t", "a", 10).received(30).content(2));
  }

  @Test
  void aSuspectFirstCopyIsSuspectAsLongAsAny() throws Exception {
    isJudged(Upload.gps("t", "a", 10).suspect());
    later(KEEP_MS - 2 * SOON_MS);
    isJudged(Upload.gps("t", "a", 10).received(20));
    later(2 * SOON_MS);
    isJudged(Upload.gps("t", "b", 11));
  }

  @Test
  void whatADifferingCopySaysIsRemembered() throws Exception {
    isQuiet(log("a", 10).odometer(100).received(20));
    isJudged(log("a", 10).odometer(2000).received(15).content(2));
    isJudged(log("b", 11).odometer(150));
  }

  @Test
  void aDossierIsWholeAndItsVersionGrows() throws Exception {
    send(log("a", 10), Upload.gps("t", "g", 1), boot("b", 5));
    isJudged(log("c", 9));
    send(Upload.gps("t", "h", 12), log("d", 8), log("a", 10).received(30).place(0, 77));
    soon();
    assertEquals(blocks("t a 2", "t b 2", "t c 2", "t d 2", "t g 2", "t h 2"), out());
  }

  @Test
  void copiesStandInADossierBesideTheFirst() throws Exception {
    send(log("a", 10).received(30), log("a", 10).received(20).place(0, 7));
    soon();
    List<byte[]> blocks = taken(dossiers);
    assertEquals(1, blocks.size());
    assertEquals(2, texts(DOSSIER, blocks.get(0)).size());
  }

  @Test
  void aTerminalIsJudgedOnceAnInterval() throws Exception {
    send(log("a", 10), log("b", 9), log("c", 8));
    later(EVERY_MS - 1);
    send(log("d", 7));
    assertEquals(List.of(), out());
    later(1);
    later(FLUSH_MS);
    assertEquals(blocks("t a 1", "t b 1", "t c 1", "t d 1"), out());
    later(10 * EVERY_MS);
    assertEquals(List.of(), out());
  }

  @Test
  void aThickDossierIsJudgedLessOften() throws Exception {
    for (int i = 0; i < 1000; i++) {
      send(Upload.gps("t", "g" + i, i));
    }
    isJudged(log("a", 10), log("b", 9));
    send(log("c", 8));
    later(3 * EVERY_MS - 1);
    assertEquals(List.of(), out());
    later(1);
    later(FLUSH_MS);
    assertEquals(1003, out().get(0).size());
  }

  @Test
  void dossiersOfSeveralTerminalsMayShareABlock() throws Exception {
    send(Upload.log("t", "a", 10), Upload.log("u", "a", 10), Upload.log("v", "a", 10));
    send(Upload.log("t", "b", 9), Upload.log("u", "b", 9));
    soon();
    assertEquals(blocks("t a 1", "t b 1", "u a 1", "u b 1"), out());
  }

  @Test
  void aFullBlockGoesOnAtOnceAndSplitsNoDossier() throws Exception {
    dossiers.close();
    dossiers = subtask(null, 2, 1, 0);
    at(dossiers, 0);
    for (String terminal : List.of("t", "u")) {
      send(Upload.log(terminal, "a", 10), Upload.log(terminal, "b", 9));
      send(Upload.log(terminal, "c", 8));
    }
    later(EVERY_MS);
    List<TreeSet<String>> blocks = out();
    assertEquals(2, blocks.size());
    assertEquals(3, blocks.get(0).size());
    assertEquals(3, blocks.get(1).size());
  }

  @Test
  void whatIsJudgedGoesOnBeforeABarrierAndAtTheEnd() throws Exception {
    send(log("a", 10), log("b", 9));
    later(EVERY_MS);
    assertEquals(List.of(), out());
    dossiers.prepareSnapshotPreBarrier(1);
    assertEquals(blocks("t a 1", "t b 1"), out());
    send(log("c", 8));
    later(EVERY_MS);
    assertEquals(List.of(), out());
    dossiers.endInput();
    assertEquals(blocks("t a 2", "t b 2", "t c 2"), out());
  }

  @Test
  void timersAndHistorySurviveARestore() throws Exception {
    send(log("a", 10).odometer(50), log("b", 9), Upload.log("u", "a", 10).odometer(7));
    OperatorSubtaskState state = checkpoint(dossiers);
    assertEquals(List.of(), out());
    dossiers.close();
    dossiers = subtask(state, 10_000, 1, 0);
    soon();
    assertEquals(blocks("t a 1", "t b 1"), out());
    send(log("c", 8));
    isJudged(Upload.log("u", "b", 11).odometer(6));
  }

  @Test
  void terminalsSurviveRescaling() throws Exception {
    TreeSet<String> expected = new TreeSet<>();
    for (int t = 10; t < 30; t++) {
      send(Upload.log("t" + t, "a", 10), Upload.log("t" + t, "b", 9));
      expected.add("t" + t + " a 1");
      expected.add("t" + t + " b 1");
    }
    OperatorSubtaskState state = checkpoint(dossiers);
    var one = subtask(share(state, 1, 2, 0), 10_000, 2, 0);
    var two = subtask(share(state, 1, 2, 1), 10_000, 2, 1);
    assertTrue(one.numProcessingTimeTimers() > 0);
    assertTrue(two.numProcessingTimeTimers() > 0);
    OperatorSubtaskState both =
        AbstractStreamOperatorTestHarness.repackageState(checkpoint(one), checkpoint(two));
    one.close();
    two.close();
    dossiers.close();
    dossiers = subtask(share(both, 2, 1, 0), 10_000, 1, 0);
    soon();
    assertEquals(List.of(expected), out());
  }

  @Test
  void anUploadIsForgottenAWhileAfterItCame() throws Exception {
    isQuiet(log("a", 10));
    later(KEEP_MS - SOON_MS - 1);
    send(log("b", 9));
    soon();
    assertEquals(blocks("t b 1"), out());
  }
}
