package odograph.flink;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.metrics.Counter;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;

/**
 * What each upload adds to which minutes, keyed by terminal. An upload's parts come in order, the
 * last one marked; those of others may come in between, as they come from several tasks. No
 * barrier comes between the parts of one, so parts under way are no state. What comes with a
 * higher version replaces what was said before: parts that are no longer true are taken back,
 * unchanged ones are not repeated. A second version 0 is a duplicate.
 */
public final class Contributions extends AbstractStreamOperator<RowData>
    implements OneInputStreamOperator<RowData, RowData> {
  private static final long serialVersionUID = 1L;

  public static final String LAYOUT =
      "device_no:string,message_id:string,version:long,copy:long,last:byte,vehicle_id:string?,"
          + "minute:long,partial:bytes?";
  private static final int DEVICE = 0;
  private static final int MESSAGE = 1;
  private static final int VERSION = 2;
  private static final int COPY = 3;
  private static final int LAST = 4;
  private static final int VEHICLE_ID = 5;
  private static final int MINUTE_MS = 6;
  private static final int PARTIAL = 7;

  private static final Layout SAID = new Layout("version:long,hash:long,targets:bytes");
  private static final Layout TARGETS = new Layout("vehicle_id:string,minute:long");

  private final long keepMs;
  private transient MapState<String, RowData> said;
  private transient Map<String, List<RowData>> coming;
  private transient Counter duplicates;

  public Contributions(long keepMs) {
    this.keepMs = keepMs;
  }

  @Override
  public void open() throws Exception {
    super.open();
    said = getRuntimeContext().getMapState(new Memory(keepMs).map("said", SAID));
    coming = new HashMap<>();
    duplicates = getMetricGroup().counter("duplicate_uploads");
  }

  @Override
  public void processElement(StreamRecord<RowData> element) throws Exception {
    RowData part = element.getValue();
    String message = part.getString(MESSAGE).toString();
    long version = part.getLong(VERSION);
    String copy = getCurrentKey() + "|" + message + "|" + version + "|" + part.getLong(COPY);
    if (part.getByte(LAST) == 0) {
      coming.computeIfAbsent(copy, none -> new ArrayList<>()).add(part);
      return;
    }
    List<RowData> parts = coming.remove(copy);
    if (parts == null) {
      parts = part.isNullAt(VEHICLE_ID) ? List.of() : List.of(part);
    } else {
      parts.add(part);
    }
    settle(message, version, parts);
  }

  private void settle(String message, long version, List<RowData> parts) throws Exception {
    RowData before = said.get(message);
    if (before != null && version <= before.getLong(0)) {
      if (version == 0 && before.getLong(0) == 0) {
        duplicates.inc();
      }
      return;
    }
    long hash = hash(parts);
    boolean changed = before == null || before.getLong(1) != hash;
    byte[] targets = changed ? targets(parts) : before.getBinary(2);
    said.put(message, GenericRowData.of(version, hash, targets));
    if (changed) {
      if (before != null) {
        takeBack(message, before.getBinary(2), parts);
      }
      for (RowData part : parts) {
        emit(part.getString(VEHICLE_ID), part.getLong(MINUTE_MS), message, part);
      }
    }
  }

  private static long hash(List<RowData> parts) {
    long hash = parts.size();
    for (RowData part : parts) {
      hash = 31 * hash + part.getString(VEHICLE_ID).hashCode();
      hash = 0x9E3779B97F4A7C15L * hash + part.getLong(MINUTE_MS);
      for (byte b : part.getBinary(PARTIAL)) {
        hash = 1099511628211L * (hash ^ b);
      }
    }
    return hash;
  }

  private static byte[] targets(List<RowData> parts) {
    BlockWriter block = new BlockWriter(TARGETS);
    for (RowData part : parts) {
      block.add(GenericRowData.of(part.getString(VEHICLE_ID), part.getLong(MINUTE_MS)));
    }
    return block.take();
  }

  /** Retract what the upload added to minutes that it no longer adds anything to. */
  private void takeBack(String message, byte[] targets, List<RowData> parts) {
    BlockReader block = new BlockReader(TARGETS, targets, 0);
    for (int r = 0; r < block.rows(); r++) {
      RowData old = block.row(r);
      boolean stays = false;
      for (RowData part : parts) {
        stays |=
            part.getLong(MINUTE_MS) == old.getLong(1)
                && part.getString(VEHICLE_ID).equals(old.getString(0));
      }
      if (!stays) {
        emit(old.getString(0), old.getLong(1), message, null);
      }
    }
  }

  private void emit(Object vehicle, long minute, String message, RowData part) {
    Object device = part == null ? null : part.getString(DEVICE);
    Object partial = part == null ? null : part.getBinary(PARTIAL);
    Object id = StringData.fromString(message);
    output.collect(
        new StreamRecord<>(GenericRowData.of(vehicle, minute, id, device, partial)));
  }
}
