package odograph.flink;

import static odograph.flink.Support.BLOCKS;
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

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;
import org.apache.flink.runtime.checkpoint.OperatorSubtaskState;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.util.AbstractStreamOperatorTestHarness;
import org.apache.flink.streaming.util.KeyedOneInputStreamOperatorTestHarness;
import org.apache.flink.table.data.RowData;
import org.apache.flink.util.function.ThrowingRunnable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class WorkUnitsTest {
  private static final long KEEP_MS = 1_000_000;
  private static final long FULL_MS = 10;
  private static final long EVERY_MS = 100;
  private static final Layout UNIT = WorkUnits.DUE;
  private KeyedOneInputStreamOperatorTestHarness<String, RowData, byte[]> blocks;

  private static KeyedOneInputStreamOperatorTestHarness<String, RowData, byte[]> subtask(
      boolean keepsItems, OperatorSubtaskState from, int subtasks, int subtask) throws Exception {
    return opened(
        new WorkUnits(KEEP_MS, keepsItems, FULL_MS, EVERY_MS),
        new Keys.Text(WorkUnits.LAYOUT, "unit"),
        Support.BLOCKS,
        from,
        subtasks,
        subtask);
  }

  @BeforeEach
  void open() throws Exception {
    restored(true, null);
    at(blocks, 1_000);
  }

  @AfterEach
  void close() throws Exception {
    blocks.close();
  }

  private void restored(boolean keepsItems, OperatorSubtaskState from) throws Exception {
    blocks = subtask(keepsItems, from, 1, 0);
  }

  private void reaches(String unit, long end) throws Exception {
    send(unit, end, 0, 1, null, null);
  }

  private void isFull(String unit, long end) throws Exception {
    send(unit, end, 1, 1, null, null);
  }

  private void tells(String unit, String item, String value) throws Exception {
    send(unit, 0, 0, 0, item, value);
  }

  private void send(String unit, long end, int full, int grows, String item, String value)
      throws Exception {
    Object packed = value == null ? null : bytes(value);
    RowData row = row(unit, end, (byte) full, (byte) grows, item, packed);
    blocks.processElement(new StreamRecord<>(row));
  }

  private void later(long ms) throws Exception {
    at(blocks, blocks.getProcessingTime() + ms);
  }

  /** Units that went on, in order: each as its rows. */
  private List<String> out() {
    return out(blocks);
  }

  private static List<String> out(AbstractStreamOperatorTestHarness<byte[]> harness) {
    List<String> units = new ArrayList<>();
    for (byte[] block : taken(harness)) {
      units.add(String.join(", ", texts(UNIT, block).stream().sorted().toList()));
    }
    return units;
  }

  @Test
  void aUnitThatGrewGoesOnAWhileAfterItFirstDid() throws Exception {
    reaches("u", 5);
    later(60);
    reaches("u", 9);
    later(EVERY_MS - 61);
    assertEquals(List.of(), out());
    later(1);
    assertEquals(List.of("u 9 null null"), out());
    later(10 * EVERY_MS);
    assertEquals(List.of(), out());
  }

  @Test
  void aFullUnitGoesOnSoon() throws Exception {
    reaches("u", 5);
    isFull("u", 20);
    later(FULL_MS);
    assertEquals(List.of("u 20 null null"), out());
  }

  @Test
  void whatIsToldGoesOnWithItsUnitEveryTime() throws Exception {
    reaches("u", 5);
    tells("u", "3", "x");
    tells("u", "1", "y");
    later(EVERY_MS);
    assertEquals(List.of("u 5 1 y, u 5 3 x, u 5 null null"), out());
    reaches("u", 6);
    tells("u", "3", null);
    later(EVERY_MS);
    assertEquals(List.of("u 6 1 y, u 6 null null"), out());
  }

  @Test
  void aUnitGoesOnAgainWhenSomethingElseIsTold() throws Exception {
    isFull("u", 20);
    later(EVERY_MS);
    out();
    tells("u", "3", "x");
    later(EVERY_MS - 1);
    assertEquals(List.of(), out());
    later(1);
    assertEquals(List.of("u 20 3 x, u 20 null null"), out());
  }

  @Test
  void whatWasToldBeforeChangesNothing() throws Exception {
    isFull("u", 20);
    tells("u", "3", "x");
    tells("u", "4", null);
    later(EVERY_MS);
    out();
    tells("u", "3", "x");
    tells("u", "4", null);
    reaches("u", 20);
    later(10 * EVERY_MS);
    assertEquals(List.of(), out());
  }

  @Test
  void correctionsOfAUnitWaitTwiceAsLongEachTime() throws Exception {
    isFull("u", 20);
    later(EVERY_MS);
    out();
    List<Long> waits = new ArrayList<>();
    for (int number = 0; number < 5; number++) {
      long before = blocks.getProcessingTime();
      while (blocks.numProcessingTimeTimers() == 0 || out().isEmpty()) {
        tells("u", "3", "x" + number + blocks.getProcessingTime());
        later(1);
      }
      waits.add(blocks.getProcessingTime() - before);
    }
    assertEquals(List.of(100L, 200L, 400L, 800L, 1600L), waits.subList(0, 5));
  }

  @Test
  void aCorrectionAfterAQuietWhileWaitsNoLonger() throws Exception {
    isFull("u", 20);
    later(EVERY_MS);
    for (int number = 0; number < 3; number++) {
      tells("u", "3", "x" + number);
      later(10 * EVERY_MS);
      out();
      later(100 * EVERY_MS);
    }
    tells("u", "3", "y");
    later(EVERY_MS);
    assertEquals(List.of("u 20 3 y, u 20 null null"), out());
  }

  @Test
  void aUnitOfWhichOnlyItemsAreKnownWaitsUntilMoreIs() throws Exception {
    tells("u", "3", "x");
    later(10 * EVERY_MS);
    assertEquals(List.of(), out());
    reaches("u", 5);
    later(EVERY_MS);
    assertEquals(List.of("u 5 3 x, u 5 null null"), out());
  }

  @Test
  void thoseThatGrewGoOnFirst() throws Exception {
    isFull("a", 20);
    later(EVERY_MS);
    out();
    tells("a", "3", "x");
    reaches("b", 5);
    later(EVERY_MS);
    assertEquals(List.of("b 5 null null", "a 20 3 x, a 20 null null"), out());
  }

  @Test
  void itemsThatAreNotKeptGoOnOnce() throws Exception {
    blocks.close();
    restored(false, null);
    at(blocks, 1_000);
    send("h", 1, 0, 1, "m", "x");
    send("h", 1, 0, 0, "n", "y");
    later(EVERY_MS);
    assertEquals(List.of("h 1 m x, h 1 n y, h 1 null null"), out());
    send("h", 1, 0, 1, "m", "x");
    later(EVERY_MS);
    assertEquals(List.of("h 1 m x, h 1 null null"), out());
  }

  @Test
  void whatWaitsAtACheckpointGoesOnAfterARestore() throws Exception {
    reaches("u", 5);
    tells("u", "3", "x");
    OperatorSubtaskState state = checkpoint(blocks);
    assertEquals(List.of(), out());
    blocks.close();
    restored(true, state);
    at(blocks, 1_000 + EVERY_MS);
    assertEquals(List.of("u 5 3 x, u 5 null null"), out());
  }

  @Test
  void whatIsDueAtACheckpointButHasNotGoneOnGoesOnAfterARestore() throws Exception {
    blocks.close();
    AtomicReference<OperatorSubtaskState> state = new AtomicReference<>();
    blocks =
        opened(
            new WorkUnits(KEEP_MS, true, FULL_MS, EVERY_MS),
            new Keys.Text(WorkUnits.LAYOUT, "unit"),
            new Watched(() -> state.compareAndSet(null, checkpoint(blocks))),
            null);
    at(blocks, 1_000);
    for (String unit : List.of("a", "b", "c")) {
      reaches(unit, 5);
    }
    later(EVERY_MS);
    List<String> units = out();
    assertEquals(3, units.size());
    blocks.close();
    restored(true, state.get());
    at(blocks, 1_000 + 3 * EVERY_MS);
    assertEquals(Set.copyOf(units.subList(1, 3)), Set.copyOf(out()));
  }

  /** Bytes of which somebody is told whenever an operator hands them on. */
  private static final class Watched extends TypeSerializerSingleton<byte[]> {
    private static final long serialVersionUID = 1L;
    private final transient ThrowingRunnable<Exception> told;

    Watched(ThrowingRunnable<Exception> told) {
      this.told = told;
    }

    @Override
    public byte[] copy(byte[] value) {
      ThrowingRunnable.unchecked(told).run();
      return BLOCKS.copy(value);
    }

    @Override
    public byte[] copy(byte[] value, byte[] reuse) {
      return copy(value);
    }

    @Override
    public void copy(DataInputView from, DataOutputView to) throws IOException {
      BLOCKS.copy(from, to);
    }

    @Override
    public boolean isImmutableType() {
      return BLOCKS.isImmutableType();
    }

    @Override
    public byte[] createInstance() {
      return BLOCKS.createInstance();
    }

    @Override
    public int getLength() {
      return BLOCKS.getLength();
    }

    @Override
    public void serialize(byte[] value, DataOutputView to) throws IOException {
      BLOCKS.serialize(value, to);
    }

    @Override
    public byte[] deserialize(DataInputView from) throws IOException {
      return BLOCKS.deserialize(from);
    }

    @Override
    public byte[] deserialize(byte[] reuse, DataInputView from) throws IOException {
      return BLOCKS.deserialize(from);
    }

    @Override
    public TypeSerializerSnapshot<byte[]> snapshotConfiguration() {
      return BLOCKS.snapshotConfiguration();
    }
  }

  @Test
  void whatWentOnBeforeACheckpointDoesNotGoOnAgain() throws Exception {
    reaches("u", 5);
    later(EVERY_MS);
    out();
    OperatorSubtaskState state = checkpoint(blocks);
    blocks.close();
    restored(true, state);
    at(blocks, 2_000);
    assertEquals(List.of(), out());
    reaches("u", 5);
    later(EVERY_MS);
    assertEquals(List.of(), out());
  }

  @Test
  void unitsGoOnAfterRescaling() throws Exception {
    for (int number = 0; number < 20; number++) {
      reaches("u" + number, 5);
      tells("u" + number, "3", "x");
    }
    OperatorSubtaskState state = checkpoint(blocks);
    List<String> found = new ArrayList<>();
    for (int subtask = 0; subtask < 2; subtask++) {
      var one = subtask(true, share(state, 1, 2, subtask), 2, subtask);
      assertTrue(one.numKeyedStateEntries() > 0);
      at(one, 1_000 + EVERY_MS);
      found.addAll(out(one));
      one.close();
    }
    assertEquals(20, found.size());
  }

  @Test
  void aUnitIsForgottenAWhileAfterItLastChanged() throws Exception {
    isFull("u", 20);
    tells("u", "3", "x");
    later(EVERY_MS);
    out();
    later(KEEP_MS + 1);
    isFull("u", 20);
    later(EVERY_MS);
    assertEquals(List.of("u 20 null null"), out());
  }
}
