package odograph.flink;

import static odograph.flink.Support.at;
import static odograph.flink.Support.checkpoint;
import static odograph.flink.Support.opened;
import static odograph.flink.Support.part;
import static odograph.flink.Support.parts;
import static odograph.flink.Support.row;
import static odograph.flink.Support.share;
import static odograph.flink.Support.taken;
import static odograph.flink.Support.text;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
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

class MinuteCorrectionsTest {
  private static final long KEEP_MS = 1000;
  private static final Layout OUT = VehicleMinutes.LAYOUT;
  private KeyedOneInputStreamOperatorTestHarness<String, RowData, RowData> said;

  private static KeyedOneInputStreamOperatorTestHarness<String, RowData, RowData> subtask(
      OperatorSubtaskState from, int subtasks, int subtask) throws Exception {
    return opened(
        new MinuteCorrections(KEEP_MS),
        new Keys.Text(MinuteCorrections.LAYOUT, "device_no"),
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

  private static RowData upload(String device, String message, long version, Object... minutes) {
    return row(device, message, version, parts(minutes), parts());
  }

  /** An upload of terminal t adds {@code minute, partial} pairs, and was never looked at. */
  private void say(String message, long version, Object... minutes) throws Exception {
    send(upload("t", message, version, minutes));
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
  void whatWasSaidAtFirstLookIsTakenBackWhereItNoLongerHolds() throws Exception {
    byte[] was = UploadPartials.targets(parts(1, "x", 2, "y"));
    send(row("t", "m", 3L, parts(2, "z"), was));
    assertEquals(List.of("v 1 m t 3 null", "v 2 m t 3 z"), out());
    send(row("t", "m", 4L, parts(3, "z"), was));
    assertEquals(List.of("v 2 m t 4 null", "v 3 m t 4 z"), out());
  }

  @Test
  void aMessageOfTwoTerminalsCountsForEach() throws Exception {
    send(upload("t", "m", 1, 1, "x"));
    send(upload("u", "m", 1, 1, "p", 2, "q"));
    assertEquals(List.of("v 1 m t 1 x", "v 1 m u 1 p", "v 2 m u 1 q"), out());
  }

  @Test
  void aHigherVersionTakesBackWhatIsNoLongerSaid() throws Exception {
    say("m", 1, 1, "x", 2, "y");
    out();
    say("m", 4, 2, "z", 3, "w");
    assertEquals(List.of("v 1 m t 4 null", "v 2 m t 4 z", "v 3 m t 4 w"), out());
  }

  @Test
  void aHigherVersionDoesNotRepeatWhatIsUnchanged() throws Exception {
    say("m", 1, 1, "x", 2, "y");
    out();
    say("m", 4, 1, "x", 2, "y");
    assertEquals(List.of(), out());
    say("m", 3, 1, "old");
    assertEquals(List.of(), out());
  }

  @Test
  void anotherVehicleIsAnotherPlace() throws Exception {
    say("m", 1, 1, "x");
    out();
    ByteBuffer other = ByteBuffer.allocate(18).order(ByteOrder.LITTLE_ENDIAN);
    part(other, "w", 1, "x");
    send(row("t", "m", 2L, other.array(), parts()));
    assertEquals(List.of("v 1 m t 2 null", "w 1 m t 2 x"), out());
  }

  @Test
  void aLowerOrEqualVersionIsIgnored() throws Exception {
    say("m", 2, 1, "x");
    out();
    say("m", 2, 1, "y");
    say("m", 1, 1, "y");
    assertEquals(List.of(), out());
  }

  @Test
  void anEmptyHigherVersionTakesEverythingBack() throws Exception {
    say("m", 1, 1, "x", 2, "y");
    out();
    say("m", 2);
    assertEquals(List.of("v 1 m t 2 null", "v 2 m t 2 null"), out());
    say("m", 1, 1, "x");
    assertEquals(List.of(), out());
    say("m", 3, 1, "x");
    assertEquals(List.of("v 1 m t 3 x"), out());
  }

  @Test
  void whatWasSaidSurvivesARestore() throws Exception {
    say("m", 1, 1, "x", 2, "y");
    say("n", 5, 1, "p");
    OperatorSubtaskState state = checkpoint(said);
    said.close();
    out();
    said = subtask(state, 1, 0);
    say("m", 1, 1, "z", 2, "y");
    say("n", 4, 1, "q");
    say("n", 6, 1, "p");
    assertEquals(List.of(), out());
    say("m", 2, 2, "y");
    assertEquals(List.of("v 1 m t 2 null", "v 2 m t 2 y"), out());
  }

  @Test
  void whatWasSaidSurvivesRescaling() throws Exception {
    for (int t = 0; t < 20; t++) {
      send(upload("t" + t, "m", 1, t, "x"));
    }
    OperatorSubtaskState state = checkpoint(said);
    var one = subtask(share(state, 1, 2, 0), 2, 0);
    var two = subtask(share(state, 1, 2, 1), 2, 1);
    List<String> taken = new ArrayList<>();
    for (int t = 0; t < 20; t++) {
      var own = owner("t" + t, one, two);
      own.processElement(new StreamRecord<>(upload("t" + t, "m", 1, t, "y")));
      own.processElement(new StreamRecord<>(upload("t" + t, "m", 2, t, "x" + t)));
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
      send(upload("t" + t, "m", 2, t, "ignored"));
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
    say("m", 1, 1, "x");
    at(said, KEEP_MS - 1);
    say("m", 2, 1, "y");
    at(said, 2 * KEEP_MS - 2);
    out();
    say("m", 2, 1, "z");
    assertEquals(List.of(), out());
    at(said, 2 * KEEP_MS - 1);
    say("m", 1, 1, "z");
    assertEquals(List.of("v 1 m t 1 z"), out());
  }
}
