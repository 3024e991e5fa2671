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
 * higher version replaces what was said before, at first look or by the last version: parts that
 * are no longer true are taken back, unchanged ones are not repeated.
 */
public final class MinuteCorrections extends AbstractStreamOperator<RowData>
    implements OneInputStreamOperator<RowData, RowData> {
  private static final long serialVersionUID = 2L;

  public static final String LAYOUT =
      "device_no:string,message_id:string,version:long,parts:bytes,was:bytes";
  private static final int DEVICE = 0;
  private static final int MESSAGE = 1;
  private static final int VERSION = 2;
  private static final int PARTS = 3;
  private static final int WAS = 4;

  private static final Layout SAID = new Layout("version:long,hash:long,targets:bytes");

  private final long keepMs;
  private transient MapState<String, RowData> said;

  public MinuteCorrections(long keepMs) {
    this.keepMs = keepMs;
  }

  @Override
  public void open() throws Exception {
    super.open();
    said = getRuntimeContext().getMapState(new ExpiringState(keepMs).map("said", SAID));
  }

  @Override
  public void processElement(StreamRecord<RowData> element) throws Exception {
    RowData upload = element.getValue();
    String message = upload.getString(MESSAGE).toString();
    long version = upload.getLong(VERSION);
    byte[] parts = upload.getBinary(PARTS);
    RowData before = said.get(message);
    if (before != null && version <= before.getLong(0)) {
      return;
    }
    long hash = hash(parts);
    byte[] targets = UploadPartials.targets(parts);
    if (before == null || before.getLong(1) != hash) {
      takeBack(upload, before == null ? upload.getBinary(WAS) : before.getBinary(2), targets);
      say(upload, parts);
    }
    said.put(message, GenericRowData.of(version, hash, targets));
  }

  private static long hash(byte[] parts) {
    long hash = Arrays.hashCode(parts);
    for (byte b : parts) {
      hash = 1099511628211L * (hash ^ b);
    }
    return hash;
  }

  private void say(RowData upload, byte[] packed) {
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
