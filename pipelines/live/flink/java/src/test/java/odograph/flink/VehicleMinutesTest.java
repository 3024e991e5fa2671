package odograph.flink;

import static odograph.flink.Support.at;
import static odograph.flink.Support.bytes;
import static odograph.flink.Support.checkpoint;
import static odograph.flink.Support.opened;
import static odograph.flink.Support.row;
import static odograph.flink.Support.share;
import static odograph.flink.Support.taken;
import static odograph.flink.Support.texts;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.apache.flink.runtime.checkpoint.OperatorSubtaskState;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.util.AbstractStreamOperatorTestHarness;
import org.apache.flink.streaming.util.KeyedOneInputStreamOperatorTestHarness;
import org.apache.flink.table.data.RowData;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class VehicleMinutesTest {
  private static final long KEEP_MS = 10_000;
  private static final long EVERY_MS = 100;
  private static final int MAX_ROWS = 4;
  private static final Layout CHANGED = VehicleMinutes.CHANGED;
  private KeyedOneInputStreamOperatorTestHarness<String, RowData, byte[]> minutes;
  private long version;

  private static KeyedOneInputStreamOperatorTestHarness<String, RowData, byte[]> subtask(
      OperatorSubtaskState from, int subtasks, int subtask) throws Exception {
    return opened(
        new VehicleMinutes(KEEP_MS, MAX_ROWS, EVERY_MS),
        new Keys.VehicleMinute(),
        Support.BLOCKS,
        from,
        subtasks,
        subtask);
  }

  @BeforeEach
  void open() throws Exception {
    minutes = subtask(null, 1, 0);
  }

  @AfterEach
  void close() throws Exception {
    minutes.close();
  }

  private void add(String vehicle, long minute, String message, String partial) throws Exception {
    say(vehicle, minute, message, version++, partial);
  }

  private void say(String vehicle, long minute, String message, long version, String partial)
      throws Exception {
    Object packed = partial == null ? null : bytes(partial);
    RowData part = row(vehicle, minute, message, "t", version, packed);
    minutes.processElement(new StreamRecord<>(part));
  }

  /** Rows that went on, in order within each minute's own. */
  private List<String> out() {
    return out(minutes);
  }

  private static List<String> out(AbstractStreamOperatorTestHarness<byte[]> harness) {
    List<String> rows = new ArrayList<>();
    for (byte[] block : taken(harness)) {
      rows.addAll(texts(CHANGED, block));
    }
    Collections.sort(rows);
    return rows;
  }

  @Test
  void aChangedMinuteGoesOnWholeWithTheNextRevision() throws Exception {
    add("v", 1, "m", "x");
    minutes.setProcessingTime(EVERY_MS);
    assertEquals(List.of("v 1 0 m t x"), out());
    add("v", 1, "n", "y");
    minutes.setProcessingTime(2 * EVERY_MS);
    assertEquals(List.of("v 1 1 m t x", "v 1 1 n t y"), out());
    add("v", 1, "m", "z");
    minutes.setProcessingTime(3 * EVERY_MS);
    assertEquals(List.of("v 1 2 m t z", "v 1 2 n t y"), out());
  }

  @Test
  void aMinuteGoesOnOnceAnIntervalHoweverOftenItChanges() throws Exception {
    add("v", 1, "m", "x");
    add("v", 1, "n", "y");
    add("v", 1, "m", "z");
    minutes.setProcessingTime(EVERY_MS - 1);
    assertEquals(List.of(), out());
    minutes.setProcessingTime(EVERY_MS);
    assertEquals(List.of("v 1 0 m t z", "v 1 0 n t y"), out());
    minutes.setProcessingTime(5 * EVERY_MS);
    assertEquals(List.of(), out());
  }

  @Test
  void minutesOfVehiclesAreTheirOwn() throws Exception {
    add("v", 1, "m", "x");
    add("w", 1, "n", "y");
    add("v", 2, "m", "z");
    minutes.setProcessingTime(EVERY_MS);
    assertEquals(List.of("v 1 0 m t x", "v 2 0 m t z", "w 1 0 n t y"), out());
  }

  @Test
  void changesGoOnBeforeABarrierAndAtTheEnd() throws Exception {
    add("v", 1, "m", "x");
    minutes.prepareSnapshotPreBarrier(1);
    assertEquals(List.of("v 1 0 m t x"), out());
    add("v", 1, "m", "y");
    minutes.endInput();
    assertEquals(List.of("v 1 1 m t y"), out());
  }

  @Test
  void anEmptiedMinuteGoesOnWithoutMessage() throws Exception {
    add("v", 1, "m", "x");
    minutes.setProcessingTime(EVERY_MS);
    out();
    add("v", 1, "m", null);
    minutes.setProcessingTime(2 * EVERY_MS);
    assertEquals(List.of("v 1 1 null null null"), out());
    add("v", 1, "m", "x");
    minutes.setProcessingTime(3 * EVERY_MS);
    assertEquals(List.of("v 1 2 m t x"), out());
  }

  @Test
  void theHighestVersionCountsWhicheverComesFirst() throws Exception {
    say("v", 1, "m", 7, "new");
    say("v", 1, "m", 0, "old");
    say("v", 1, "n", 7, null);
    say("v", 1, "n", 0, "taken back before it came");
    minutes.setProcessingTime(EVERY_MS);
    assertEquals(List.of("v 1 0 m t new"), out());
    say("v", 1, "m", 7, "other");
    say("v", 1, "m", 6, null);
    minutes.setProcessingTime(2 * EVERY_MS);
    assertEquals(List.of(), out());
  }

  @Test
  void aMinuteThatNobodyEverSawIsNotEmptied() throws Exception {
    say("v", 1, "m", 3, null);
    minutes.setProcessingTime(EVERY_MS);
    assertEquals(List.of(), out());
    say("v", 2, "m", 3, "x");
    say("v", 2, "m", 4, null);
    minutes.setProcessingTime(2 * EVERY_MS);
    assertEquals(List.of(), out());
  }

  @Test
  void aPartThatIsTheSameAgainChangesNothing() throws Exception {
    add("v", 1, "m", "x");
    minutes.setProcessingTime(EVERY_MS);
    out();
    add("v", 1, "m", "x");
    minutes.setProcessingTime(2 * EVERY_MS);
    assertEquals(List.of(), out());
  }

  @Test
  void minutesThatFindNoRoomInMemoryAreNotLost() throws Exception {
    minutes.close();
    minutes =
        opened(
            new VehicleMinutes(KEEP_MS, MAX_ROWS, EVERY_MS, Integer.MAX_VALUE),
            new Keys.VehicleMinute(),
            Support.BLOCKS,
            null);
    for (int minute = 100; minute < 300; minute++) {
      add("v", minute, "m", "x");
    }
    minutes.setProcessingTime(EVERY_MS);
    assertEquals(200, out().size());
    for (int minute = 100; minute < 300; minute++) {
      add("v", minute, "n", "y");
    }
    minutes.setProcessingTime(2 * EVERY_MS);
    List<String> rows = out();
    assertEquals(400, rows.size());
    assertTrue(rows.contains("v 100 1 m t x") && rows.contains("v 100 1 n t y"));
  }

  @Test
  void whatWasTakenBackStaysSoAfterARestore() throws Exception {
    say("v", 1, "m", 3, null);
    OperatorSubtaskState state = checkpoint(minutes);
    minutes.close();
    minutes = subtask(state, 1, 0);
    say("v", 1, "m", 2, "x");
    minutes.setProcessingTime(EVERY_MS);
    assertEquals(List.of(), out());
  }

  @Test
  void aMinuteIsNeverSplitBetweenBlocks() throws Exception {
    for (int m = 0; m < 7; m++) {
      add("v", 1, "m" + m, "x");
      add("v", 2, "m" + m, "x");
    }
    minutes.setProcessingTime(EVERY_MS);
    List<byte[]> blocks = taken(minutes);
    assertEquals(2, blocks.size());
    for (byte[] block : blocks) {
      assertEquals(7, texts(CHANGED, block).size());
    }
  }

  @Test
  void revisionsGoOnAfterARestore() throws Exception {
    add("v", 1, "m", "x");
    OperatorSubtaskState state = checkpoint(minutes);
    assertEquals(List.of("v 1 0 m t x"), out());
    minutes.close();
    minutes = subtask(state, 1, 0);
    minutes.setProcessingTime(EVERY_MS);
    assertEquals(List.of(), out());
    add("v", 1, "n", "y");
    minutes.setProcessingTime(2 * EVERY_MS);
    assertEquals(List.of("v 1 1 m t x", "v 1 1 n t y"), out());
  }

  @Test
  void revisionsGoOnAfterRescaling() throws Exception {
    for (int minute = 10; minute < 30; minute++) {
      add("v", minute, "m", "x");
    }
    OperatorSubtaskState state = checkpoint(minutes);
    var one = subtask(share(state, 1, 2, 0), 2, 0);
    var two = subtask(share(state, 1, 2, 1), 2, 1);
    assertTrue(one.numKeyedStateEntries() > 0 && two.numKeyedStateEntries() > 0);
    OperatorSubtaskState both =
        AbstractStreamOperatorTestHarness.repackageState(checkpoint(one), checkpoint(two));
    one.close();
    two.close();
    minutes.close();
    minutes = subtask(share(both, 2, 1, 0), 1, 0);
    List<String> expected = new ArrayList<>();
    for (int minute = 10; minute < 30; minute++) {
      add("v", minute, "n", "y");
      expected.add("v " + minute + " 1 m t x");
      expected.add("v " + minute + " 1 n t y");
    }
    minutes.endInput();
    assertEquals(expected, out());
  }

  @Test
  void aMinuteIsForgottenAWhileAfterItLastChanged() throws Exception {
    at(minutes, 0);
    add("v", 1, "m", "x");
    at(minutes, EVERY_MS);
    out();
    at(minutes, KEEP_MS + EVERY_MS);
    add("v", 1, "n", "y");
    at(minutes, KEEP_MS + 2 * EVERY_MS);
    assertEquals(List.of("v 1 0 n t y"), out());
  }
}
