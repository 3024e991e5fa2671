package odograph.flink;

import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.metrics.Counter;
import org.apache.flink.runtime.state.VoidNamespace;
import org.apache.flink.runtime.state.VoidNamespaceSerializer;
import org.apache.flink.streaming.api.operators.InternalTimer;
import org.apache.flink.streaming.api.operators.InternalTimerService;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.operators.Triggerable;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.utils.JoinedRowData;

/**
 * What is known of each terminal's uploads, keyed by terminal. An upload that could change what is
 * thought of another, or be thought of differently because of another, makes the terminal's whole
 * dossier go on to be judged: all rows of one terminal in one block, with a growing version. Not
 * more often than every {@code everyMs}, and less often the thicker the dossier is.
 *
 * <p>The first copy of an upload is remembered as long as any. {@link History} decides what is
 * quiet; it may err towards judging once too often, never the other way.
 */
public final class Dossiers extends Flushed
    implements OneInputStreamOperator<RowData, byte[]>,
        Triggerable<String, VoidNamespace> {
  private static final long serialVersionUID = 1L;

  public static final String LAYOUT =
      "device_no:string,message_id:string,kind:byte,message_type:byte,topic:string,partition:int,"
          + "offset:long,received_ms:long,latest_ms:long,event_ms:long,boot_count:int?,seq:long?,"
          + "uptime_s:long?,samples:int,filled:int,content:long,odometer_m:long?,"
          + "ignition_on:byte?,timestamp:long,key:bytes?,value:bytes?,headers:bytes?";

  public static final String DOSSIER = LAYOUT + ",version:long";

  private static final Layout ROW = new Layout(LAYOUT);
  static final int MESSAGE_ID = ROW.at("message_id");
  static final int KIND = ROW.at("kind");
  static final int MESSAGE_TYPE = ROW.at("message_type");
  private static final int TOPIC = ROW.at("topic");
  private static final int PARTITION = ROW.at("partition");
  private static final int OFFSET = ROW.at("offset");
  static final int RECEIVED_MS = ROW.at("received_ms");
  static final int EVENT_MS = ROW.at("event_ms");
  private static final int CONTENT = ROW.at("content");
  static final int ODOMETER_M = ROW.at("odometer_m");
  static final int IGNITION_ON = ROW.at("ignition_on");
  private static final int ROWS_PER_INTERVAL = 500;
  private static final long FLUSH_MS = 200;

  private final long keepMs;
  private final int maxRows;
  private final long maxBytes;
  private final long everyMs;
  private final long debounceMs;
  private final long rebootWindowMs;
  private transient MapState<String, RowData> uploads;
  private transient MapState<String, RowData> copies;
  private transient ValueState<RowData> history;
  private transient InternalTimerService<VoidNamespace> timers;
  private transient Counter judged;

  public Dossiers(
      long keepMs,
      int maxRows,
      long maxBytes,
      long everyMs,
      long debounceMs,
      long rebootWindowMs) {
    super(new Layout(DOSSIER), FLUSH_MS);
    this.keepMs = keepMs;
    this.maxRows = maxRows;
    this.maxBytes = maxBytes;
    this.everyMs = everyMs;
    this.debounceMs = debounceMs;
    this.rebootWindowMs = rebootWindowMs;
  }

  @Override
  public void open() throws Exception {
    super.open();
    Memory memory = new Memory(keepMs);
    uploads = getRuntimeContext().getMapState(memory.map("uploads", ROW));
    copies = getRuntimeContext().getMapState(memory.map("copies", ROW));
    history = getRuntimeContext().getState(memory.value("history", History.LAYOUT));
    timers = getInternalTimerService("revise", VoidNamespaceSerializer.INSTANCE, this);
    judged = getMetricGroup().counter("dossiers");
  }

  @Override
  public void processElement(StreamRecord<RowData> element) throws Exception {
    RowData upload = element.getValue();
    String message = upload.getString(MESSAGE_ID).toString();
    RowData first = uploads.get(message);
    boolean quiet = true;
    if (first == null) {
      uploads.put(message, upload);
    } else {
      uploads.put(message, first);
      copies.put(message + "|" + place(upload), upload);
      quiet = upload.getLong(CONTENT) == first.getLong(CONTENT) && !before(upload, first);
    }
    boolean suspect = first != null && first.getByte(KIND) == History.SUSPECT;
    History known = History.of(history.value());
    long now = timers.currentProcessingTime();
    RowData told = suspect ? first : upload;
    quiet &= known.takes(told, first == null, now, keepMs, debounceMs, rebootWindowMs);
    if (!quiet && !known.waiting) {
      long delay = everyMs * (1 + known.size / ROWS_PER_INTERVAL);
      timers.registerProcessingTimeTimer(VoidNamespace.INSTANCE, now + delay);
      known.waiting = true;
    }
    history.update(known.row());
  }

  private static String place(RowData upload) {
    return upload.getString(TOPIC) + "+" + upload.getInt(PARTITION) + "+" + upload.getLong(OFFSET);
  }

  /** Whether {@code a} counts before {@code b}: by receive time, then by place. */
  private static boolean before(RowData a, RowData b) {
    long difference = a.getLong(RECEIVED_MS) - b.getLong(RECEIVED_MS);
    if (difference == 0) {
      difference = a.getString(TOPIC).compareTo(b.getString(TOPIC));
    }
    if (difference == 0) {
      difference = a.getInt(PARTITION) - b.getInt(PARTITION);
    }
    return difference == 0 ? a.getLong(OFFSET) < b.getLong(OFFSET) : difference < 0;
  }

  @Override
  public void onProcessingTime(InternalTimer<String, VoidNamespace> timer) throws Exception {
    History known = History.of(history.value());
    known.waiting = false;
    known.version++;
    int start = block.rows();
    for (RowData upload : uploads.values()) {
      write(upload, known.version);
    }
    for (RowData copy : copies.values()) {
      write(copy, known.version);
    }
    known.size = block.rows() - start;
    history.update(known.row());
    judged.inc();
    if (block.rows() >= maxRows || block.bytes() >= maxBytes) {
      flush();
    }
  }

  private void write(RowData upload, long version) {
    block.add(new JoinedRowData(upload, GenericRowData.of(version)));
  }

  @Override
  public void onEventTime(InternalTimer<String, VoidNamespace> timer) {
    throw new IllegalStateException("no timer follows event time");
  }
}
