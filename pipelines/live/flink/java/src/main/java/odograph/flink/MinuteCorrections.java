package odograph.flink;

import java.util.Arrays;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;

/**
 * What uploads that were judged again add to which minutes, keyed by terminal. What comes with a
 * higher version replaces what was written before, at first look or by the last version: parts that
 * are no longer true are taken back, unchanged ones are not repeated.
 */
public final class MinuteCorrections extends AbstractStreamOperator<RowData>
    implements OneInputStreamOperator<RowData, RowData> {
  private static final long serialVersionUID = 2L;

  public static final Layout LAYOUT = Layout.of("minute_correction");
  private static final int DEVICE = LAYOUT.at("device_no");
  private static final int MESSAGE = LAYOUT.at("message_id");
  private static final int VERSION = LAYOUT.at("version");
  private static final int PARTS = LAYOUT.at("parts");
  private static final int WAS = LAYOUT.at("was");

  private static final String STATE_WRITTEN = "said";
  private static final Layout WRITTEN = Layout.of("state_correction");
  private static final int WRITTEN_VERSION = WRITTEN.at("version");
  private static final int WRITTEN_HASH = WRITTEN.at("hash");
  private static final int WRITTEN_TARGETS = WRITTEN.at("targets");

  private final long keepMs;
  private transient MapState<String, RowData> written;

  public MinuteCorrections(long keepMs) {
    this.keepMs = keepMs;
  }

  @Override
  public void open() throws Exception {
    super.open();
    ExpiringState memory = new ExpiringState(keepMs);
    written = getRuntimeContext().getMapState(memory.map(STATE_WRITTEN, WRITTEN));
  }

  @Override
  public void processElement(StreamRecord<RowData> element) throws Exception {
    RowData upload = element.getValue();
    String message = upload.getString(MESSAGE).toString();
    long version = upload.getLong(VERSION);
    byte[] parts = upload.getBinary(PARTS);
    RowData before = written.get(message);
    if (before != null && version <= before.getLong(WRITTEN_VERSION)) {
      return;
    }
    long hash = hash(parts);
    byte[] targets = UploadPartials.targets(parts);
    if (before == null || before.getLong(WRITTEN_HASH) != hash) {
      byte[] was = before == null ? upload.getBinary(WAS) : before.getBinary(WRITTEN_TARGETS);
      takeBack(upload, was, targets);
      write(upload, parts);
    }
    GenericRowData now = new GenericRowData(WRITTEN.size());
    now.setField(WRITTEN_VERSION, version);
    now.setField(WRITTEN_HASH, hash);
    now.setField(WRITTEN_TARGETS, targets);
    written.put(message, now);
  }

  private static long hash(byte[] parts) {
    long hash = Arrays.hashCode(parts);
    for (byte b : parts) {
      hash = 1099511628211L * (hash ^ b);
    }
    return hash;
  }

  private void write(RowData upload, byte[] packed) {
    UploadPartials parts = new UploadPartials(packed);
    while (parts.next()) {
      emit(upload, parts, parts.partial());
    }
  }

  /** Retract what the upload added to minutes that it no longer adds anything to. */
  private void takeBack(RowData upload, byte[] was, byte[] now) {
    UploadPartials old = new UploadPartials(was);
    while (old.next()) {
      boolean stays = false;
      for (UploadPartials parts = new UploadPartials(now); parts.next(); ) {
        stays |= parts.sameTarget(old);
      }
      if (!stays) {
        emit(upload, old, null);
      }
    }
  }

  private void emit(RowData upload, UploadPartials part, byte[] partial) {
    output.collect(
        new StreamRecord<>(
            VehicleMinutes.part(
                StringData.fromString(part.vehicle()),
                part.minute(),
                upload.getString(MESSAGE),
                upload.getString(DEVICE),
                upload.getLong(VERSION),
                partial)));
  }
}
