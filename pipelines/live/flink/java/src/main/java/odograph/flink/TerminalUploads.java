package odograph.flink;

import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.metrics.Counter;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.runtime.state.VoidNamespace;
import org.apache.flink.runtime.state.VoidNamespaceSerializer;
import org.apache.flink.streaming.api.operators.InternalTimer;
import org.apache.flink.streaming.api.operators.InternalTimerService;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.operators.Triggerable;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.utils.JoinedRowData;
import org.apache.flink.util.OutputTag;

/**
 * What is known of each terminal's uploads, keyed by terminal. What an upload adds to minutes when
 * it is first looked at goes on at once, of its first copy only. An upload that could change what is
 * thought of another, or be thought of differently because of another, makes the terminal's whole
 * dossier go on to be judged: all rows of one terminal in one block, with a growing version. Not
 * more often than every {@code everyMs}, and less often the thicker the dossier is.
 *
 * <p>The first copy of an upload is remembered as long as any. {@link TerminalHistory} decides what is
 * quiet; it may err towards judging once too often, never the other way. Histories at hand are kept
 * in memory and become state when a checkpoint is taken or room is needed for others.
 */
public final class TerminalUploads extends FlushingOperator
    implements OneInputStreamOperator<RowData, byte[]>,
        Triggerable<String, VoidNamespace> {
  private static final long serialVersionUID = 1L;

  public static final Layout LAYOUT = Layout.of("upload");

  /** The same with the version of the dossier. */
  public static final Layout DOSSIER = Layout.of("dossier");

  private static final int DEVICE_NO = LAYOUT.at("device_no");
  static final int MESSAGE_ID = LAYOUT.at("message_id");
  static final int KIND = LAYOUT.at("kind");
  static final int MESSAGE_TYPE = LAYOUT.at("message_type");
  private static final int TOPIC = LAYOUT.at("topic");
  private static final int PARTITION = LAYOUT.at("partition");
  private static final int OFFSET = LAYOUT.at("offset");
  static final int RECEIVED_MS = LAYOUT.at("received_ms");
  static final int EVENT_MS = LAYOUT.at("event_ms");
  private static final int CONTENT = LAYOUT.at("content");
  static final int ODOMETER_M = LAYOUT.at("odometer_m");
  static final int IGNITION_ON = LAYOUT.at("ignition_on");
  private static final int PARTS = LAYOUT.at("parts");
  private static final int ROWS_PER_INTERVAL = 500;
  private static final int HISTORIES_AT_HAND = 200_000;
  private static final long FLUSH_MS = 200;
  private static final OutputTag<RowData> FIRST_PARTS =
      new OutputTag<>("said", VehicleMinutes.LAYOUT.typeInfo());
  private static final String STATE_UPLOADS = "uploads";
  private static final String STATE_COPIES = "copies";
  private static final String STATE_HISTORY = "history";
  private static final String TIMERS = "revise";

  private final long keepMs;
  private final int maxRows;
  private final long maxBytes;
  private final long everyMs;
  private final long debounceMs;
  private final long rebootWindowMs;
  private transient MapState<String, RowData> uploads;
  private transient MapState<String, RowData> copies;
  private transient ValueState<RowData> history;
  private transient Map<String, TerminalHistory> atHand;
  private transient InternalTimerService<VoidNamespace> timers;
  private transient Counter judged;
  private transient Counter duplicates;

  public TerminalUploads(
      long keepMs,
      int maxRows,
      long maxBytes,
      long everyMs,
      long debounceMs,
      long rebootWindowMs) {
    super(DOSSIER, FLUSH_MS);
    this.keepMs = keepMs;
    this.maxRows = maxRows;
    this.maxBytes = maxBytes;
    this.everyMs = everyMs;
    this.debounceMs = debounceMs;
    this.rebootWindowMs = rebootWindowMs;
  }

  /** Where what uploads add to minutes goes on. */
  public static OutputTag<RowData> firstParts() {
    return FIRST_PARTS;
  }

  @Override
  public void open() throws Exception {
    super.open();
    ExpiringState memory = new ExpiringState(keepMs);
    uploads = getRuntimeContext().getMapState(memory.map(STATE_UPLOADS, LAYOUT));
    copies = getRuntimeContext().getMapState(memory.map(STATE_COPIES, LAYOUT));
    history = getRuntimeContext().getState(memory.value(STATE_HISTORY, TerminalHistory.LAYOUT));
    timers = getInternalTimerService(TIMERS, VoidNamespaceSerializer.INSTANCE, this);
    judged = getMetricGroup().counter("dossiers");
    duplicates = getMetricGroup().counter("duplicate_uploads");
    atHand = new LinkedHashMap<>(1024, 0.75f, true);
  }

  @Override
  public void processElement(StreamRecord<RowData> element) throws Exception {
    RowData upload = element.getValue();
    String message = upload.getString(MESSAGE_ID).toString();
    RowData first = uploads.get(message);
    boolean quiet = true;
    if (first == null) {
      uploads.put(message, withoutPartials(upload));
      emitParts(upload);
    } else {
      duplicates.inc();
      uploads.put(message, first);
      copies.put(message + "|" + place(upload), upload);
      quiet = upload.getLong(CONTENT) == first.getLong(CONTENT) && !before(upload, first);
    }
    boolean suspect = first != null && first.getByte(KIND) == TerminalHistory.SUSPECT;
    long now = timers.currentProcessingTime();
    TerminalHistory known = known((String) getCurrentKey(), now);
    RowData one = suspect ? first : upload;
    quiet &= known.takes(one, first == null, now, keepMs, debounceMs, rebootWindowMs);
    if (!quiet && !known.waiting) {
      long delay = everyMs * (1 + known.size / ROWS_PER_INTERVAL);
      timers.registerProcessingTimeTimer(VoidNamespace.INSTANCE, now + delay);
      known.waiting = true;
    }
    makeRoom();
  }

  /** The row as it is remembered: where it added something to minutes, but not what. */
  private static RowData withoutPartials(RowData upload) {
    byte[] parts = upload.getBinary(PARTS);
    if (parts.length == 0) {
      return upload;
    }
    GenericRowData row = LAYOUT.copy(upload);
    row.setField(PARTS, UploadPartials.targets(parts));
    return row;
  }

  private void emitParts(RowData upload) {
    StringData message = upload.getString(MESSAGE_ID);
    StringData device = upload.getString(DEVICE_NO);
    UploadPartials parts = new UploadPartials(upload.getBinary(PARTS));
    while (parts.next()) {
      StringData vehicle = StringData.fromString(parts.vehicle());
      RowData part = VehicleMinutes.part(vehicle, parts.minute(), message, device, 0, parts.partial());
      output.collect(FIRST_PARTS, new StreamRecord<>(part));
    }
  }

  private TerminalHistory known(String terminal, long now) throws Exception {
    TerminalHistory known = atHand.get(terminal);
    if (known == null) {
      known = TerminalHistory.of(history.value());
      atHand.put(terminal, known);
    }
    if (now - known.touchedMs >= keepMs) {
      known = new TerminalHistory();
      atHand.put(terminal, known);
    }
    known.touchedMs = now;
    known.unsaved = true;
    return known;
  }

  private void makeRoom() throws Exception {
    Iterator<Map.Entry<String, TerminalHistory>> oldest = atHand.entrySet().iterator();
    while (atHand.size() > HISTORIES_AT_HAND) {
      Map.Entry<String, TerminalHistory> one = oldest.next();
      keep(one.getKey(), one.getValue());
      oldest.remove();
    }
  }

  private void keep(String terminal, TerminalHistory known) throws Exception {
    if (known.unsaved) {
      setCurrentKey(terminal);
      history.update(known.row());
      known.unsaved = false;
    }
  }

  @Override
  public void snapshotState(StateSnapshotContext context) throws Exception {
    for (Map.Entry<String, TerminalHistory> one : atHand.entrySet()) {
      keep(one.getKey(), one.getValue());
    }
    super.snapshotState(context);
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
    TerminalHistory known = known(timer.getKey(), timers.currentProcessingTime());
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
