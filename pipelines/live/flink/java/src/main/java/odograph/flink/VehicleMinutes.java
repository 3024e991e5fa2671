package odograph.flink;

import java.util.Arrays;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;

/**
 * Partials by vehicle and minute, one an upload, the highest version of each; in whichever order
 * they come. Of every minute that changed all partials go on together, with a growing revision, not
 * more often than every {@code everyMs}; where none is left, a row without message goes on.
 *
 * <p>Minutes at hand are kept in memory, up to a share of the heap that leaves room even when all
 * tasks of the step are in one process, and become state when a checkpoint is taken or room is
 * needed for others.
 */
public final class VehicleMinutes extends FlushingOperator implements OneInputStreamOperator<RowData, byte[]> {
  private static final long serialVersionUID = 2L;

  public static final Layout LAYOUT = Layout.of("minute_part");
  static final int VEHICLE = LAYOUT.at("vehicle_id");
  static final int MINUTE = LAYOUT.at("minute");
  private static final int MESSAGE = LAYOUT.at("message_id");
  private static final int DEVICE = LAYOUT.at("device_no");
  private static final int VERSION = LAYOUT.at("version");
  private static final int PARTIAL = LAYOUT.at("partial");

  public static final Layout CHANGED = Layout.of("changed_minute");
  private static final int CHANGED_VEHICLE = CHANGED.at("vehicle_id");
  private static final int CHANGED_MINUTE = CHANGED.at("minute");
  private static final int CHANGED_REVISION = CHANGED.at("revision");
  private static final int CHANGED_MESSAGE = CHANGED.at("message_id");
  private static final int CHANGED_DEVICE = CHANGED.at("device_no");
  private static final int CHANGED_PARTIAL = CHANGED.at("partial");

  private static final String STATE_MINUTE = "minute";
  private static final Layout HELD = Layout.of("state_minute");
  private static final int HELD_VEHICLE = HELD.at("vehicle_id");
  private static final int HELD_MINUTE = HELD.at("minute");
  private static final int HELD_REVISION = HELD.at("revision");
  private static final int HELD_CHANGED_MS = HELD.at("changed_ms");
  private static final int HELD_PARTIALS = HELD.at("partials");

  private static final Layout HELD_PART = Layout.of("state_minute_part");
  private static final int HELD_PART_MESSAGE = HELD_PART.at("message_id");
  private static final int HELD_PART_DEVICE = HELD_PART.at("device_no");
  private static final int HELD_PART_VERSION = HELD_PART.at("version");
  private static final int HELD_PART_PARTIAL = HELD_PART.at("partial");
  private static final int SHARE_OF_HEAP = 6;
  private static final int OVERHEAD_BYTES = 200;

  private final long keepMs;
  private final int maxRows;
  private final int shareOfHeap;
  private transient ValueState<RowData> held;
  private transient Map<String, Minute> atHand;
  private transient long bytesAtHand;
  private transient long roomBytes;
  private transient Set<String> changed;
  private transient ArrowBlockWriter kept;

  public VehicleMinutes(long keepMs, int maxRows, long everyMs) {
    this(keepMs, maxRows, everyMs, SHARE_OF_HEAP);
  }

  /** Minutes at hand take one part of the heap in {@code shareOfHeap}. */
  VehicleMinutes(long keepMs, int maxRows, long everyMs, int shareOfHeap) {
    super(CHANGED, everyMs);
    this.keepMs = keepMs;
    this.maxRows = maxRows;
    this.shareOfHeap = shareOfHeap;
  }

  /** A row of {@link #LAYOUT}. */
  static RowData part(
      StringData vehicle,
      long minute,
      StringData message,
      StringData device,
      long version,
      byte[] partial) {
    GenericRowData row = new GenericRowData(LAYOUT.size());
    row.setField(VEHICLE, vehicle);
    row.setField(MINUTE, minute);
    row.setField(MESSAGE, message);
    row.setField(DEVICE, device);
    row.setField(VERSION, version);
    row.setField(PARTIAL, partial);
    return row;
  }

  @Override
  public void open() throws Exception {
    super.open();
    held = getRuntimeContext().getState(new ExpiringState(keepMs).value(STATE_MINUTE, HELD));
    atHand = new LinkedHashMap<>(1024, 0.75f, true);
    bytesAtHand = 0;
    int tasks = getRuntimeContext().getTaskInfo().getNumberOfParallelSubtasks();
    roomBytes = Runtime.getRuntime().maxMemory() / shareOfHeap / tasks;
    changed = new LinkedHashSet<>();
    kept = new ArrowBlockWriter(HELD_PART);
  }

  @Override
  public void processElement(StreamRecord<RowData> element) throws Exception {
    RowData part = element.getValue();
    String key = (String) getCurrentKey();
    Minute minute = minute(key, part);
    if (minute.takes(part)) {
      minute.changedMs = getProcessingTimeService().getCurrentProcessingTime();
      changed.add(key);
      makeRoom();
    }
  }

  /** The minute of the current key; a new one where there is none, or it is long forgotten. */
  private Minute minute(String key, RowData part) throws Exception {
    Minute minute = known(key);
    if (minute == null) {
      minute = new Minute(part.getString(VEHICLE).toString(), part.getLong(MINUTE));
      atHand.put(key, minute);
    }
    return minute;
  }

  private Minute known(String key) throws Exception {
    Minute minute = atHand.get(key);
    if (minute == null) {
      RowData row = held.value();
      if (row == null) {
        return null;
      }
      minute = new Minute(row);
      atHand.put(key, minute);
    }
    long now = getProcessingTimeService().getCurrentProcessingTime();
    if (now - minute.changedMs < keepMs) {
      return minute;
    }
    atHand.remove(key);
    bytesAtHand -= minute.bytes;
    return null;
  }

  private void makeRoom() throws Exception {
    Iterator<Map.Entry<String, Minute>> oldest = atHand.entrySet().iterator();
    while (bytesAtHand > roomBytes && oldest.hasNext()) {
      Map.Entry<String, Minute> one = oldest.next();
      keep(one.getKey(), one.getValue());
      bytesAtHand -= one.getValue().bytes;
      oldest.remove();
    }
  }

  private void keep(String key, Minute minute) throws Exception {
    if (minute.unsaved) {
      setCurrentKey(key);
      held.update(minute.row());
      minute.unsaved = false;
    }
  }

  @Override
  public void snapshotState(StateSnapshotContext context) throws Exception {
    for (Map.Entry<String, Minute> one : atHand.entrySet()) {
      keep(one.getKey(), one.getValue());
    }
    super.snapshotState(context);
  }

  @Override
  void flush() throws Exception {
    for (String key : changed) {
      setCurrentKey(key);
      Minute minute = known(key);
      if (minute != null && minute.publish()) {
        write(minute);
      }
      if (block.rows() >= maxRows) {
        super.flush();
      }
    }
    changed.clear();
    makeRoom();
    super.flush();
  }

  private void write(Minute minute) {
    GenericRowData row = new GenericRowData(CHANGED.size());
    row.setField(CHANGED_VEHICLE, StringData.fromString(minute.vehicle));
    row.setField(CHANGED_MINUTE, minute.minuteMs);
    row.setField(CHANGED_REVISION, minute.revision);
    boolean empty = true;
    for (Map.Entry<String, Part> one : minute.parts.entrySet()) {
      if (one.getValue().partial != null) {
        empty = false;
        row.setField(CHANGED_MESSAGE, StringData.fromString(one.getKey()));
        row.setField(CHANGED_DEVICE, StringData.fromString(one.getValue().device));
        row.setField(CHANGED_PARTIAL, one.getValue().partial);
        block.add(row);
      }
    }
    if (empty) {
      block.add(row);
    }
  }

  /** What an upload says; no partial: it was taken back. */
  private record Part(String device, long version, byte[] partial) {}

  /** The parts of a vehicle's minute by message. */
  private final class Minute {
    private final String vehicle;
    private final long minuteMs;
    private final Map<String, Part> parts = new LinkedHashMap<>();
    private int revision = -1;
    private long changedMs;
    private long bytes;
    private boolean unsaved;

    Minute(String vehicle, long minuteMs) {
      this.vehicle = vehicle;
      this.minuteMs = minuteMs;
      grows(OVERHEAD_BYTES);
    }

    Minute(RowData row) {
      this(row.getString(HELD_VEHICLE).toString(), row.getLong(HELD_MINUTE));
      revision = row.getInt(HELD_REVISION);
      changedMs = row.getLong(HELD_CHANGED_MS);
      ArrowBlockReader block = new ArrowBlockReader(HELD_PART, row.getBinary(HELD_PARTIALS), 0);
      for (int r = 0; r < block.rows(); r++) {
        RowData part = block.row(r);
        put(
            part.getString(HELD_PART_MESSAGE).toString(),
            part.getString(HELD_PART_DEVICE).toString(),
            part.getLong(HELD_PART_VERSION),
            part.isNullAt(HELD_PART_PARTIAL) ? null : part.getBinary(HELD_PART_PARTIAL));
      }
    }

    private void grows(long more) {
      bytes += more;
      bytesAtHand += more;
    }

    /** Take a part; whether that changes anything anybody sees. */
    boolean takes(RowData row) {
      String message = row.getString(MESSAGE).toString();
      Part before = parts.get(message);
      if (before != null && row.getLong(VERSION) <= before.version) {
        return false;
      }
      unsaved = true;
      Part now =
          put(
              message,
              row.getString(DEVICE).toString(),
              row.getLong(VERSION),
              row.isNullAt(PARTIAL) ? null : row.getBinary(PARTIAL));
      return !Arrays.equals(now.partial, before == null ? null : before.partial);
    }

    private Part put(String message, String device, long version, byte[] partial) {
      Part part = new Part(device, version, partial);
      if (parts.put(message, part) == null) {
        grows(OVERHEAD_BYTES + message.length() + (partial == null ? 0 : partial.length));
      }
      return part;
    }

    /** Take the next revision; false where there is nothing to publish and nothing ever was. */
    boolean publish() {
      boolean empty = parts.values().stream().allMatch(part -> part.partial == null);
      if (empty && revision < 0) {
        return false;
      }
      revision++;
      unsaved = true;
      return true;
    }

    RowData row() {
      GenericRowData held = new GenericRowData(HELD_PART.size());
      parts.forEach(
          (message, part) -> {
            held.setField(HELD_PART_MESSAGE, StringData.fromString(message));
            held.setField(HELD_PART_DEVICE, StringData.fromString(part.device));
            held.setField(HELD_PART_VERSION, part.version);
            held.setField(HELD_PART_PARTIAL, part.partial);
            kept.add(held);
          });
      GenericRowData row = new GenericRowData(HELD.size());
      row.setField(HELD_VEHICLE, StringData.fromString(vehicle));
      row.setField(HELD_MINUTE, minuteMs);
      row.setField(HELD_REVISION, revision);
      row.setField(HELD_CHANGED_MS, changedMs);
      row.setField(HELD_PARTIALS, kept.take());
      return row;
    }
  }
}
