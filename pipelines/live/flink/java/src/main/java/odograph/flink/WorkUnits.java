package odograph.flink;

import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.metrics.Counter;
import org.apache.flink.runtime.state.VoidNamespace;
import org.apache.flink.runtime.state.VoidNamespaceSerializer;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.InternalTimer;
import org.apache.flink.streaming.api.operators.InternalTimerService;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.operators.Triggerable;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;

/**
 * Units of work that are written whole, keyed by unit: how far each reaches, and the
 * newest value of each of its items. A unit goes on, all of it in one block, soon after it is full, a while after it grew,
 * and a while after an item was corrected; that while doubles each time a unit goes on without
 * having grown, so that a unit that is corrected for days is not written all day long.
 *
 * <p>What waits is state, and goes on only between two elements, one unit at a time, those that
 * grew first: a barrier never waits for more than one unit, and what went on before it is written
 * when it has passed.
 */
public final class WorkUnits extends AbstractStreamOperator<byte[]>
    implements OneInputStreamOperator<RowData, byte[]>, Triggerable<String, VoidNamespace> {
  private static final long serialVersionUID = 1L;

  /**
   * Without an item a row says how far its unit reaches, and whether that is all there will be;
   * with one the value of the item, none any more where it is null, and whether the unit grows by
   * it.
   */
  public static final Layout LAYOUT = Layout.of("unit_change");

  /** The first row of a unit has no item. */
  public static final Layout DUE = Layout.of("unit_due");

  private static final int END = LAYOUT.at("end");
  private static final int FULL = LAYOUT.at("full");
  private static final int GROWS = LAYOUT.at("grows");
  private static final int ITEM = LAYOUT.at("item");
  private static final int VALUE = LAYOUT.at("value");
  private static final int DUE_UNIT = DUE.at("unit");
  private static final int DUE_END = DUE.at("end");
  private static final int DUE_ITEM = DUE.at("item");
  private static final int DUE_VALUE = DUE.at("value");
  private static final String STATE_HEAD = "head";
  private static final String STATE_ITEMS = "items";
  private static final String TIMERS = "due";
  private static final Layout HEAD = Layout.of("state_unit");
  private static final Layout HELD_ITEM = Layout.of("state_unit_item");
  private static final int HELD_VALUE = HELD_ITEM.at("value");
  private static final long NEVER = Long.MAX_VALUE;
  private static final int MOST_DOUBLINGS = 20;
  private static final int SHARE_OF_KEEPING = 8;
  private static final int SHARE_OF_INPUT = 4;

  private final long keepMs;
  private final boolean keepsItems;
  private final long fullMs;
  private final long everyMs;
  private transient ValueState<RowData> head;
  private transient MapState<String, RowData> items;
  private transient InternalTimerService<VoidNamespace> timers;
  private transient ArrowBlockWriter block;
  private transient Queue<String> grown;
  private transient Queue<String> correctedUnits;
  private transient Set<String> due;
  private transient Counter written;
  private transient Counter corrected;

  /**
   * {@code keepsItems}: an item goes on whenever its unit does; else only once.
   */
  public WorkUnits(long keepMs, boolean keepsItems, long fullMs, long everyMs) {
    this.keepMs = keepMs;
    this.keepsItems = keepsItems;
    this.fullMs = Math.min(fullMs, everyMs);
    this.everyMs = everyMs;
  }

  @Override
  public void open() throws Exception {
    super.open();
    ExpiringState memory = new ExpiringState(keepMs);
    head = getRuntimeContext().getState(memory.value(STATE_HEAD, HEAD));
    items = getRuntimeContext().getMapState(memory.map(STATE_ITEMS, HELD_ITEM));
    timers = getInternalTimerService(TIMERS, VoidNamespaceSerializer.INSTANCE, this);
    block = new ArrowBlockWriter(DUE);
    grown = new ArrayDeque<>();
    correctedUnits = new ArrayDeque<>();
    due = new HashSet<>();
    written = getMetricGroup().counter("units_written");
    corrected = getMetricGroup().counter("units_corrected");
    getMetricGroup().gauge("units_due", due::size);
  }

  @Override
  public void processElement(StreamRecord<RowData> element) throws Exception {
    RowData row = element.getValue();
    Head known = new Head(head.value());
    boolean hasItem = !row.isNullAt(ITEM);
    if (hasItem ? !changesItem(row) : row.getLong(END) <= known.end) {
      return;
    }
    known.end = Math.max(known.end, row.getLong(END));
    if (hasItem && row.getByte(GROWS) == 0) {
      changes(known);
    } else {
      grows(known, row.getByte(FULL) == 0 ? everyMs : fullMs);
    }
    head.update(known.row());
    if (known.isDirty()) {
      timers.registerProcessingTimeTimer(VoidNamespace.INSTANCE, known.dueMs());
    }
  }

  private void grows(Head known, long waitMs) {
    known.grownMs = Math.min(known.grownMs, timers.currentProcessingTime() + waitMs);
  }

  private void changes(Head known) {
    long doubled = everyMs << Math.min(known.corrections, MOST_DOUBLINGS);
    long wait = Math.max(everyMs, Math.min(doubled, keepMs / SHARE_OF_KEEPING));
    long next = Math.max(timers.currentProcessingTime() + everyMs, known.writtenMs + wait);
    known.correctedMs = Math.min(known.correctedMs, next);
  }

  /** Take what the row says of its item; whether that is something else than before. */
  private boolean changesItem(RowData row) throws Exception {
    String item = row.getString(ITEM).toString();
    RowData before = items.get(item);
    if (row.isNullAt(VALUE)) {
      items.remove(item);
      return before != null;
    }
    byte[] value = row.getBinary(VALUE);
    if (before != null && Arrays.equals(before.getBinary(HELD_VALUE), value)) {
      return false;
    }
    GenericRowData held = new GenericRowData(HELD_ITEM.size());
    held.setField(HELD_VALUE, value);
    items.put(item, held);
    return true;
  }

  @Override
  public void onProcessingTime(InternalTimer<String, VoidNamespace> timer) throws Exception {
    Head known = new Head(head.value());
    long now = timers.currentProcessingTime();
    if (!known.isDirty() || known.dueMs() > now) {
      return;
    }
    if (due.add(timer.getKey())) {
      (known.grownMs <= now ? grown : correctedUnits).add(timer.getKey());
      if (due.size() == 1) {
        goOnAfter(0);
      }
    }
    // until it has gone on a timer must bring it back after a restore
    timers.registerProcessingTimeTimer(VoidNamespace.INSTANCE, now + everyMs);
  }

  private void goOnAfter(long ms) {
    long next = getProcessingTimeService().getCurrentProcessingTime() + ms;
    getProcessingTimeService().registerTimer(next, time -> goOn());
  }

  private void goOn() throws Exception {
    String unit = grown.isEmpty() ? correctedUnits.remove() : grown.remove();
    due.remove(unit);
    setCurrentKey(unit);
    long began = timers.currentProcessingTime();
    write(unit);
    if (!due.isEmpty()) {
      goOnAfter((timers.currentProcessingTime() - began) / SHARE_OF_INPUT);
    }
  }

  private void write(String unit) throws Exception {
    Head known = new Head(head.value());
    if (!known.isDirty()) {
      return;
    }
    GenericRowData row = new GenericRowData(DUE.size());
    row.setField(DUE_UNIT, StringData.fromString(unit));
    row.setField(DUE_END, known.end);
    block.add(row);
    for (Map.Entry<String, RowData> item : items.entries()) {
      row.setField(DUE_ITEM, StringData.fromString(item.getKey()));
      row.setField(DUE_VALUE, item.getValue().getBinary(HELD_VALUE));
      block.add(row);
    }
    if (!keepsItems) {
      items.clear();
    }
    written.inc();
    if (known.grownMs == NEVER) {
      known.corrections++;
      corrected.inc();
    }
    known.grownMs = NEVER;
    known.correctedMs = NEVER;
    known.writtenMs = timers.currentProcessingTime();
    head.update(known.row());
    output.collect(new StreamRecord<>(block.take()));
  }

  @Override
  public void onEventTime(InternalTimer<String, VoidNamespace> timer) {
    throw new IllegalStateException("no timer follows event time");
  }

  /** What is known of a unit: when it must go on, because it grew or because an item was corrected. */
  private static final class Head {
    private static final int END = HEAD.at("end");
    private static final int GROWN_MS = HEAD.at("grown_ms");
    private static final int CORRECTED_MS = HEAD.at("told_ms");
    private static final int WRITTEN_MS = HEAD.at("written_ms");
    private static final int CORRECTIONS = HEAD.at("corrections");

    long end;
    long grownMs = NEVER;
    long correctedMs = NEVER;
    long writtenMs;
    int corrections;

    Head(RowData row) {
      if (row != null) {
        end = row.getLong(END);
        grownMs = row.getLong(GROWN_MS);
        correctedMs = row.getLong(CORRECTED_MS);
        writtenMs = row.getLong(WRITTEN_MS);
        corrections = row.getInt(CORRECTIONS);
      }
    }

    /** Of a unit of which nothing but items is known there is nothing to write yet. */
    boolean isDirty() {
      return end > 0 && dueMs() != NEVER;
    }

    long dueMs() {
      return Math.min(grownMs, correctedMs);
    }

    RowData row() {
      GenericRowData row = new GenericRowData(HEAD.size());
      row.setField(END, end);
      row.setField(GROWN_MS, grownMs);
      row.setField(CORRECTED_MS, correctedMs);
      row.setField(WRITTEN_MS, writtenMs);
      row.setField(CORRECTIONS, corrections);
      return row;
    }
  }
}
