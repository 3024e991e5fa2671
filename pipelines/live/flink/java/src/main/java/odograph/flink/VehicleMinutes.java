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

  public static final String LAYOUT =
      "vehicle_id:string,minute:long,message_id:string,device_no:string,version:long,"
          + "partial:bytes?";
  public static final String CHANGED =
      "vehicle_id:string,minute:long,revision:int,message_id:string?,device_no:string?,"
          + "partial:bytes?";
  static final int VEHICLE = 0;
  static final int MINUTE = 1;
  private static final int MESSAGE = 2;
  private static final int DEVICE = 3;
  private static final int VERSION = 4;
  private static final int PARTIAL = 5;

  private static final Layout HELD =
      new Layout("vehicle_id:string,minute:long,revision:int,changed_ms:long,partials:bytes");
  private static final Layout PARTIALS =
      new Layout("message_id:string,device_no:string,version:long,partial:bytes?");
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
    super(new Layout(CHANGED), everyMs);
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
    return GenericRowData.of(vehicle, minute, message, device, version, partial);
  }

  @Override
  public void open() throws Exception {
    super.open();
    held = getRuntimeContext().getState(new ExpiringState(keepMs).value("minute", HELD));
    atHand = new LinkedHashMap<>(1024, 0.75f, true);
    bytesAtHand = 0;
    int tasks = getRuntimeContext().getTaskInfo().getNumberOfParallelSubtasks();
    roomBytes = Runtime.getRuntime().maxMemory() / shareOfHeap / tasks;
    changed = new LinkedHashSet<>();
    kept = new ArrowBlockWriter(PARTIALS);
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
    GenericRowData row = new GenericRowData(6);
    row.setField(0, StringData.fromString(minute.vehicle));
    row.setField(1, minute.minuteMs);
    row.setField(2, minute.revision);
    boolean empty = true;
    for (Map.Entry<String, Part> one : minute.parts.entrySet()) {
      if (one.getValue().partial != null) {
        empty = false;
        row.setField(3, StringData.fromString(one.getKey()));
        row.setField(4, StringData.fromString(one.getValue().device));
        row.setField(5, one.getValue().partial);
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
      this(row.getString(0).toString(), row.getLong(1));
      revision = row.getInt(2);
      changedMs = row.getLong(3);
      ArrowBlockReader block = new ArrowBlockReader(PARTIALS, row.getBinary(4), 0);
      for (int r = 0; r < block.rows(); r++) {
        RowData part = block.row(r);
        put(part.getString(0).toString(), part, 1);
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
      Part now = put(message, row, DEVICE);
      return !Arrays.equals(now.partial, before == null ? null : before.partial);
    }

    /** Put a part whose device, version and partial stand at {@code at} and after it. */
    private Part put(String message, RowData row, int at) {
      byte[] partial = row.isNullAt(at + 2) ? null : row.getBinary(at + 2);
      Part part = new Part(row.getString(at).toString(), row.getLong(at + 1), partial);
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
      parts.forEach(
          (message, part) ->
              kept.add(
                  GenericRowData.of(
                      StringData.fromString(message),
                      StringData.fromString(part.device),
                      part.version,
                      part.partial)));
      return GenericRowData.of(
          StringData.fromString(vehicle), minuteMs, revision, changedMs, kept.take());
    }
  }
}
