package odograph.flink;

import static odograph.flink.Support.at;
import static odograph.flink.Support.bytes;
import static odograph.flink.Support.checkpoint;
import static odograph.flink.Support.opened;
import static odograph.flink.Support.row;
import static odograph.flink.Support.share;
import static odograph.flink.Support.taken;
import static odograph.flink.Support.text;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import org.apache.flink.runtime.checkpoint.OperatorSubtaskState;
import org.apache.flink.runtime.state.KeyGroupRangeAssignment;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.util.AbstractStreamOperatorTestHarness;
import org.apache.flink.streaming.util.KeyedOneInputStreamOperatorTestHarness;
import org.apache.flink.table.data.RowData;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class ContributionsTest {
  private static final long KEEP_MS = 1000;
  private static final Layout OUT = new Layout(Minutes.LAYOUT);
  private KeyedOneInputStreamOperatorTestHarness<String, RowData, RowData> said;

  private static KeyedOneInputStreamOperatorTestHarness<String, RowData, RowData> subtask(
      OperatorSubtaskState from, int subtasks, int subtask) throws Exception {
    return opened(
        new Contributions(KEEP_MS),
        new Keys.Text(Contributions.LAYOUT, "device_no"),
        OUT.typeInfo().toRowSerializer(),
        from,
        subtasks,
        subtask);
  }

  @BeforeEach
  void open() throws Exception {
    said = subtask(null, 1, 0);
  }

  @AfterEach
  void close() throws Exception {
    said.close();
  }

  private static RowData part(
      String device, String message, long version, boolean last, long minute, String partial) {
    return part(device, message, version, 0, last, minute, partial);
  }

  private static RowData part(
      String device,
      String message,
      long version,
      long copy,
      boolean last,
      long minute,
      String partial) {
    byte end = (byte) (last ? 1 : 0);
    return row(device, message, version, copy, end, "v", minute, bytes(partial));
  }

  /** Parts of an upload of terminal t: {@code minute, partial} pairs; none: it adds nothing. */
  private void say(String message, long version, Object... minutes) throws Exception {
    if (minutes.length == 0) {
      send(row("t", message, version, 0L, (byte) 1, null, 0L, null));
    }
    for (int i = 0; i < minutes.length; i += 2) {
      boolean last = i + 2 == minutes.length;
      long minute = (int) minutes[i];
      send(part("t", message, version, last, minute, (String) minutes[i + 1]));
    }
  }

  private void send(RowData part) throws Exception {
    said.processElement(new StreamRecord<>(part));
  }

  private List<String> out() {
    return out(said);
  }

  private static List<String> out(AbstractStreamOperatorTestHarness<RowData> harness) {
    List<String> texts = new ArrayList<>();
    taken(harness).forEach(row -> texts.add(text(OUT, row)));
    return texts;
  }

  @Test
  void partsOfAnUploadCountTogetherOnceTheLastIsThere() throws Exception {
    send(part("t", "m", 0, false, 1, "x"));
    assertEquals(List.of(), out());
    send(part("t", "m", 0, true, 2, "y"));
    assertEquals(List.of("v 1 m t x", "v 2 m t y"), out());
  }

  @Test
  void partsOfUploadsThatComeBetweenEachOtherCountForTheirOwn() throws Exception {
    send(part("t", "m", 0, false, 1, "x"));
    send(part("u", "n", 0, false, 5, "p"));
    send(part("t", "o", 3, true, 7, "z"));
    send(part("u", "n", 0, true, 6, "q"));
    send(part("t", "m", 1, true, 1, "new"));
    send(part("t", "m", 0, true, 2, "old"));
    assertEquals(
        List.of("v 7 o t z", "v 5 n u p", "v 6 n u q", "v 1 m t new"), out());
  }

  @Test
  void partsOfCopiesThatComeBetweenEachOtherCountForTheFirstWhole() throws Exception {
    send(part("t", "m", 0, 7, false, 1, "x"));
    send(part("t", "m", 0, 9, false, 1, "p"));
    send(part("t", "m", 0, 9, true, 2, "q"));
    send(part("t", "m", 0, 7, true, 2, "y"));
    assertEquals(List.of("v 1 m t p", "v 2 m t q"), out());
  }

  @Test
  void aMessageOfTwoTerminalsCountsForEach() throws Exception {
    send(part("t", "m", 1, false, 1, "x"));
    send(part("u", "m", 1, false, 1, "p"));
    send(part("u", "m", 1, true, 2, "q"));
    send(part("t", "m", 1, true, 2, "y"));
    assertEquals(List.of("v 1 m u p", "v 2 m u q", "v 1 m t x", "v 2 m t y"), out());
  }

  @Test
  void aSecondVersionZeroIsADuplicate() throws Exception {
    say("m", 0, 1, "x");
    say("m", 0, 1, "x");
    say("m", 0, 2, "other");
    assertEquals(List.of("v 1 m t x"), out());
  }

  @Test
  void aHigherVersionTakesBackWhatIsNoLongerSaid() throws Exception {
    say("m", 0, 1, "x", 2, "y");
    out();
    say("m", 4, 2, "z", 3, "w");
    assertEquals(List.of("v 1 m null null", "v 2 m t z", "v 3 m t w"), out());
  }

  @Test
  void aHigherVersionDoesNotRepeatWhatIsUnchanged() throws Exception {
    say("m", 0, 1, "x", 2, "y");
    out();
    say("m", 4, 1, "x", 2, "y");
    assertEquals(List.of(), out());
    say("m", 3, 1, "old");
    assertEquals(List.of(), out());
  }

  @Test
  void anotherVehicleIsAnotherPlace() throws Exception {
    say("m", 0, 1, "x");
    out();
    send(row("t", "m", 1L, 0L, (byte) 1, "w", 1L, bytes("x")));
    assertEquals(List.of("v 1 m null null", "w 1 m t x"), out());
  }

  @Test
  void aLowerOrEqualVersionIsIgnored() throws Exception {
    say("m", 2, 1, "x");
    out();
    say("m", 2, 1, "y");
    say("m", 1, 1, "y");
    say("m", 0, 1, "y");
    assertEquals(List.of(), out());
  }

  @Test
  void anEmptyHigherVersionTakesEverythingBack() throws Exception {
    say("m", 0, 1, "x", 2, "y");
    out();
    say("m", 1);
    assertEquals(List.of("v 1 m null null", "v 2 m null null"), out());
    say("m", 0, 1, "x");
    assertEquals(List.of(), out());
    say("m", 2, 1, "x");
    assertEquals(List.of("v 1 m t x"), out());
  }

  @Test
  void whatWasSaidSurvivesARestore() throws Exception {
    say("m", 0, 1, "x", 2, "y");
    say("n", 5, 1, "p");
    OperatorSubtaskState state = checkpoint(said);
    said.close();
    said = subtask(state, 1, 0);
    say("m", 0, 1, "x", 2, "y");
    say("n", 4, 1, "q");
    say("n", 6, 1, "p");
    assertEquals(List.of(), out());
    say("m", 1, 2, "y");
    assertEquals(List.of("v 1 m null null", "v 2 m t y"), out());
  }

  @Test
  void whatWasSaidSurvivesRescaling() throws Exception {
    for (int t = 0; t < 20; t++) {
      send(part("t" + t, "m", 0, true, t, "x"));
    }
    OperatorSubtaskState state = checkpoint(said);
    var one = subtask(share(state, 1, 2, 0), 2, 0);
    var two = subtask(share(state, 1, 2, 1), 2, 1);
    List<String> taken = new ArrayList<>();
    for (int t = 0; t < 20; t++) {
      var own = owner("t" + t, one, two);
      own.processElement(new StreamRecord<>(part("t" + t, "m", 0, true, t, "x")));
      own.processElement(new StreamRecord<>(part("t" + t, "m", 1, true, t, "x" + t)));
    }
    taken.addAll(out(one));
    taken.addAll(out(two));
    assertEquals(20, taken.size());
    OperatorSubtaskState both =
        AbstractStreamOperatorTestHarness.repackageState(checkpoint(one), checkpoint(two));
    one.close();
    two.close();
    said.close();
    said = subtask(share(both, 2, 1, 0), 1, 0);
    for (int t = 0; t < 20; t++) {
      send(part("t" + t, "m", 1, true, t, "ignored"));
    }
    assertEquals(List.of(), out());
  }

  private static <T> T owner(String key, T one, T two) {
    int subtask =
        KeyGroupRangeAssignment.assignKeyToParallelOperator(key, Support.MAX_PARALLELISM, 2);
    return subtask == 0 ? one : two;
  }

  @Test
  void anUploadIsForgottenAWhileAfterItWasLastSaid() throws Exception {
    at(said, 0);
    say("m", 0, 1, "x");
    at(said, KEEP_MS - 1);
    say("m", 1, 1, "y");
    at(said, 2 * KEEP_MS - 2);
    out();
    say("m", 1, 1, "z");
    assertEquals(List.of(), out());
    at(said, 2 * KEEP_MS - 1);
    say("m", 0, 1, "z");
    assertEquals(List.of("v 1 m t z"), out());
  }
}
