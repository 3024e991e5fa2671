package odograph.flink;

import java.util.LinkedHashSet;
import java.util.Set;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;

/**
 * The partials of each vehicle and minute, one an upload, keyed by {@link Keys.VehicleMinute}. A
 * changed minute goes on with all its partials and the next revision, at most once an interval
 * and before every checkpoint; one without partials left goes on as a single row without message.
 * How partials merge is Python's to know.
 */
public final class Minutes extends Flushed
    implements OneInputStreamOperator<RowData, byte[]> {
  private static final long serialVersionUID = 1L;

  /** A null partial takes back what the message had added. */
  public static final String LAYOUT =
      "vehicle_id:string,minute:long,message_id:string,device_no:string?,partial:bytes?";

  public static final String CHANGED =
      "vehicle_id:string,minute:long,revision:int,message_id:string?,device_no:string?,"
          + "partial:bytes?";
  static final int VEHICLE = 0;
  static final int MINUTE = 1;
  private static final int MESSAGE = 2;
  private static final int DEVICE = 3;
  private static final int PARTIAL = 4;

  private static final Layout HELD = new Layout("device_no:string,partial:bytes");
  private static final Layout HEAD = new Layout("vehicle_id:string,minute:long,revision:int");

  private final long keepMs;
  private final int maxRows;
  private transient MapState<String, RowData> partials;
  private transient ValueState<RowData> head;
  private transient Set<String> changed;

  public Minutes(long keepMs, int maxRows, long everyMs) {
    super(new Layout(CHANGED), everyMs);
    this.keepMs = keepMs;
    this.maxRows = maxRows;
  }

  @Override
  public void open() throws Exception {
    super.open();
    Memory memory = new Memory(keepMs);
    partials = getRuntimeContext().getMapState(memory.map("partials", HELD));
    head = getRuntimeContext().getState(memory.value("head", HEAD));
    changed = new LinkedHashSet<>();
  }

  @Override
  public void processElement(StreamRecord<RowData> element) throws Exception {
    RowData part = element.getValue();
    String message = part.getString(MESSAGE).toString();
    if (part.isNullAt(PARTIAL)) {
      partials.remove(message);
    } else {
      partials.put(
          message, GenericRowData.of(part.getString(DEVICE), part.getBinary(PARTIAL)));
    }
    if (changed.add((String) getCurrentKey()) && head.value() == null) {
      head.update(GenericRowData.of(part.getString(VEHICLE), part.getLong(MINUTE), -1));
    }
  }

  @Override
  void flush() throws Exception {
    for (String key : changed) {
      setCurrentKey(key);
      RowData before = head.value();
      int revision = before.getInt(2) + 1;
      head.update(GenericRowData.of(before.getString(0), before.getLong(1), revision));
      write(before, revision);
      if (block.rows() >= maxRows) {
        super.flush();
      }
    }
    changed.clear();
    super.flush();
  }

  private void write(RowData minute, int revision) throws Exception {
    GenericRowData row = new GenericRowData(6);
    row.setField(0, minute.getString(0));
    row.setField(1, minute.getLong(1));
    row.setField(2, revision);
    boolean empty = true;
    for (var entry : partials.entries()) {
      empty = false;
      row.setField(3, StringData.fromString(entry.getKey()));
      row.setField(4, entry.getValue().getString(0));
      row.setField(5, entry.getValue().getBinary(1));
      block.add(row);
    }
    if (empty) {
      block.add(row);
    }
  }
}
