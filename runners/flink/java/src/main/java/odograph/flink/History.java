package odograph.flink;

import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;

/**
 * What must be remembered of a terminal to tell a quiet upload: one that changes nothing about the
 * others and that none of them changes. The rules themselves stand in Python; this only knows how
 * far they can reach.
 */
final class History {
  static final Layout LAYOUT =
      new Layout(
          "waiting:byte,version:long,size:int,suspect_ms:long,log_ms:long,highest_m:long,"
              + "highest_ms:long,ignition:byte,ignition_since_ms:long,boot_ms:long");

  /** Kinds of uploads, as Python tells them. */
  static final byte SUSPECT = 2;

  static final byte TOLD = 1;
  static final byte LOG = 0;
  private static final long NEVER = Long.MIN_VALUE / 4;

  boolean waiting;
  long version;
  int size;
  private long suspectMs = NEVER;
  private long logMs = NEVER;
  private long highestM = NEVER;
  private long highestMs = NEVER;
  private byte ignition = -1;
  private long ignitionSinceMs = NEVER;
  private long bootMs = NEVER;

  static History of(RowData row) {
    History known = new History();
    if (row != null) {
      known.waiting = row.getByte(0) != 0;
      known.version = row.getLong(1);
      known.size = row.getInt(2);
      known.suspectMs = row.getLong(3);
      known.logMs = row.getLong(4);
      known.highestM = row.getLong(5);
      known.highestMs = row.getLong(6);
      known.ignition = row.getByte(7);
      known.ignitionSinceMs = row.getLong(8);
      known.bootMs = row.getLong(9);
    }
    return known;
  }

  RowData row() {
    return GenericRowData.of(
        (byte) (waiting ? 1 : 0),
        version,
        size,
        suspectMs,
        logMs,
        highestM,
        highestMs,
        ignition,
        ignitionSinceMs,
        bootMs);
  }

  /** Remember an upload; whether it is quiet. {@code fresh}: no copy of it came before. */
  boolean takes(RowData upload, boolean fresh, long keepMs, long debounceMs, long rebootMs) {
    byte kind = upload.getByte(Dossiers.KIND);
    long received = upload.getLong(Dossiers.RECEIVED_MS);
    if (kind == SUSPECT) {
      suspectMs = Math.max(suspectMs, received);
      return false;
    }
    boolean quiet = received - suspectMs >= keepMs;
    if (kind == TOLD && fresh) {
      boolean log = upload.getByte(Dossiers.MESSAGE_TYPE) == LOG;
      quiet &= log ? takesLog(upload, keepMs, debounceMs) : takesBoot(upload, rebootMs);
    }
    return quiet;
  }

  private boolean takesLog(RowData log, long keepMs, long debounceMs) {
    long event = log.getLong(Dossiers.EVENT_MS);
    if (event <= logMs) {
      return false;
    }
    logMs = event;
    boolean quiet = true;
    if (!log.isNullAt(Dossiers.ODOMETER_M)) {
      long odometer = log.getLong(Dossiers.ODOMETER_M);
      boolean lower = odometer < highestM && event - highestMs < keepMs;
      quiet = !lower;
      if (!lower) {
        highestM = odometer;
        highestMs = event;
      }
    }
    if (!log.isNullAt(Dossiers.IGNITION_ON) && log.getByte(Dossiers.IGNITION_ON) != ignition) {
      quiet &= event - ignitionSinceMs >= debounceMs;
      ignition = log.getByte(Dossiers.IGNITION_ON);
      ignitionSinceMs = event;
    }
    return quiet;
  }

  private boolean takesBoot(RowData boot, long rebootMs) {
    long event = boot.getLong(Dossiers.EVENT_MS);
    boolean quiet = event - bootMs > rebootMs;
    bootMs = Math.max(bootMs, event);
    return quiet;
  }
}
