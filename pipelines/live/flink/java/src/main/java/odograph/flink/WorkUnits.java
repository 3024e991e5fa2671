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
 * Units of work that are written whole, keyed by unit: how far each reaches, and what is told of
 * its items. A unit goes on, all of it in one block, soon after it is full, a while after it grew,
 * and a while after something else was told; that while doubles each time a unit goes on without
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
   * with one what is told of the item, nothing any more where the value is null, and whether it
   * makes the unit grow.
   */
  public static final String LAYOUT =
      "unit:string,end:long,full:byte,grows:byte,item:string?,value:bytes?";

  /** The first row of a unit has no item. */
  public static final String UNIT = "unit:string,end:long,item:string?,value:bytes?";

  private static final int END = 1;
  private static final int FULL = 2;
  private static final int GROWS = 3;
  private static final int ITEM = 4;
  private static final int VALUE = 5;
  private static final Layout HEAD =
      new Layout("end:long,grown_ms:long,told_ms:long,written_ms:long,corrections:int");
  private static final Layout HELD = new Layout("value:bytes");
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
  private transient Queue<String> told;
  private transient Set<String> due;
  private transient Counter written;
  private transient Counter corrected;

  /**
   * {@code keepsItems}: what is told of an item holds whenever its unit goes on; else it goes on
   * once.
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
    head = getRuntimeContext().getState(memory.value("head", HEAD));
    items = getRuntimeContext().getMapState(memory.map("items", HELD));
    timers = getInternalTimerService("due", VoidNamespaceSerializer.INSTANCE, this);
    block = new ArrowBlockWriter(new Layout(UNIT));
    grown = new ArrayDeque<>();
    told = new ArrayDeque<>();
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
    if (hasItem ? !tell(row) : row.getLong(END) <= known.end) {
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
    known.toldMs = Math.min(known.toldMs, next);
  }

  /** Whether something else was told before. */
  private boolean tell(RowData row) throws Exception {
    String item = row.getString(ITEM).toString();
    RowData before = items.get(item);
    if (row.isNullAt(VALUE)) {
      items.remove(item);
      return before != null;
    }
    byte[] value = row.getBinary(VALUE);
    if (before != null && Arrays.equals(before.getBinary(0), value)) {
      return false;
    }
    items.put(item, GenericRowData.of(value));
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
      (known.grownMs <= now ? grown : told).add(timer.getKey());
      if (due.size() == 1) {
        goOnAfter(0);
      }
    }
    // until it has gone on a timer must tell of it after a restore
    timers.registerProcessingTimeTimer(VoidNamespace.INSTANCE, now + everyMs);
  }

  private void goOnAfter(long ms) {
    long next = getProcessingTimeService().getCurrentProcessingTime() + ms;
    getProcessingTimeService().registerTimer(next, time -> goOn());
  }

  private void goOn() throws Exception {
    String unit = grown.isEmpty() ? told.remove() : grown.remove();
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
    StringData name = StringData.fromString(unit);
    block.add(GenericRowData.of(name, known.end, null, null));
    for (Map.Entry<String, RowData> item : items.entries()) {
      StringData key = StringData.fromString(item.getKey());
      block.add(GenericRowData.of(name, known.end, key, item.getValue().getBinary(0)));
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
    known.toldMs = NEVER;
    known.writtenMs = timers.currentProcessingTime();
    head.update(known.row());
    output.collect(new StreamRecord<>(block.take()));
  }

  @Override
  public void onEventTime(InternalTimer<String, VoidNamespace> timer) {
    throw new IllegalStateException("no timer follows event time");
  }

  /** What is known of a unit: when it must go on, because it grew or because of what was told. */
  private static final class Head {
    long end;
    long grownMs = NEVER;
    long toldMs = NEVER;
    long writtenMs;
    int corrections;

    Head(RowData row) {
      if (row != null) {
        end = row.getLong(0);
        grownMs = row.getLong(1);
        toldMs = row.getLong(2);
        writtenMs = row.getLong(3);
        corrections = row.getInt(4);
      }
    }

    /** Of a unit of which nothing but items is known there is nothing to write yet. */
    boolean isDirty() {
      return end > 0 && dueMs() != NEVER;
    }

    long dueMs() {
      return Math.min(grownMs, toldMs);
    }

    RowData row() {
      return GenericRowData.of(end, grownMs, toldMs, writtenMs, corrections);
    }
  }
}
