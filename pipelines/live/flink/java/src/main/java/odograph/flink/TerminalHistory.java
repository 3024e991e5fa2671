package odograph.flink;

import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;

/**
 * What must be remembered of a terminal to recognise a quiet upload: one that changes nothing about the
 * others and that none of them changes. The rules themselves stand in Python; this only knows how
 * far they can reach, from which terminals'
 * clocks, odometers, ignition and boots it takes which uploads need judging.
 */
final class TerminalHistory {
  static final Layout LAYOUT = Layout.of("state_history");
  private static final int WAITING = LAYOUT.at("waiting");
  private static final int VERSION = LAYOUT.at("version");
  private static final int SIZE = LAYOUT.at("size");
  private static final int SUSPECT_MS = LAYOUT.at("suspect_ms");
  private static final int LOG_MS = LAYOUT.at("log_ms");
  private static final int HIGHEST_M = LAYOUT.at("highest_m");
  private static final int HIGHEST_MS = LAYOUT.at("highest_ms");
  private static final int IGNITION = LAYOUT.at("ignition");
  private static final int IGNITION_SINCE_MS = LAYOUT.at("ignition_since_ms");
  private static final int BOOT_MS = LAYOUT.at("boot_ms");
  private static final int TOUCHED_MS = LAYOUT.at("touched_ms");

  /** Kinds of uploads, by the numbers of Python's {@code first_verdict}. */
  static final byte SUSPECT = 2;

  static final byte HISTORY = 1;
  static final byte LOG = 0;
  private static final byte UNSURE = -1;
  private static final long NEVER = Long.MIN_VALUE / 4;

  boolean waiting;
  long version;
  int size;

  /** When the last suspect one came. */
  private long suspectMs = NEVER;

  private long logMs = NEVER;
  private long highestM = NEVER;

  /** When the highest came; or, ahead of now, from when on it can be known. */
  private long highestMs = NEVER;

  private byte ignition = UNSURE;

  /** Not before the last change of ignition. */
  private long ignitionSinceMs = NEVER;

  private long bootMs = NEVER;

  /** When it was last asked for anything, and whether state does not know all of this yet. */
  long touchedMs = NEVER;

  boolean unsaved;

  static TerminalHistory of(RowData row) {
    TerminalHistory known = new TerminalHistory();
    if (row != null) {
      known.waiting = row.getByte(WAITING) != 0;
      known.version = row.getLong(VERSION);
      known.size = row.getInt(SIZE);
      known.suspectMs = row.getLong(SUSPECT_MS);
      known.logMs = row.getLong(LOG_MS);
      known.highestM = row.getLong(HIGHEST_M);
      known.highestMs = row.getLong(HIGHEST_MS);
      known.ignition = row.getByte(IGNITION);
      known.ignitionSinceMs = row.getLong(IGNITION_SINCE_MS);
      known.bootMs = row.getLong(BOOT_MS);
      known.touchedMs = row.getLong(TOUCHED_MS);
    }
    return known;
  }

  RowData row() {
    GenericRowData row = new GenericRowData(LAYOUT.size());
    row.setField(WAITING, (byte) (waiting ? 1 : 0));
    row.setField(VERSION, version);
    row.setField(SIZE, size);
    row.setField(SUSPECT_MS, suspectMs);
    row.setField(LOG_MS, logMs);
    row.setField(HIGHEST_M, highestM);
    row.setField(HIGHEST_MS, highestMs);
    row.setField(IGNITION, ignition);
    row.setField(IGNITION_SINCE_MS, ignitionSinceMs);
    row.setField(BOOT_MS, bootMs);
    row.setField(TOUCHED_MS, touchedMs);
    return row;
  }

  /**
   * Remember an upload that came at {@code now} by the cluster's clock, which is also what makes a
   * dossier forget; whether it is quiet. Where a copy of it came before ({@code fresh} is false),
   * the caller knows whether the two are the same; only then may it be quiet.
   */
  boolean takes(
      RowData upload, boolean fresh, long now, long keepMs, long debounceMs, long rebootMs) {
    byte kind = upload.getByte(TerminalUploads.KIND);
    if (kind == SUSPECT) {
      suspectMs = now;
      return false;
    }
    boolean quiet = now - suspectMs >= keepMs;
    if (kind == HISTORY) {
      boolean fits =
          upload.getByte(TerminalUploads.MESSAGE_TYPE) == LOG
              ? takesLog(upload, fresh, now, keepMs, debounceMs)
              : takesBoot(upload, rebootMs);
      quiet &= fits || !fresh;
    }
    return quiet;
  }

  private boolean takesLog(RowData log, boolean fresh, long now, long keepMs, long debounceMs) {
    long event = log.getLong(TerminalUploads.EVENT_MS);
    boolean quiet = takesOdometer(log, now, keepMs);
    if (fresh && event > logMs) {
      logMs = event;
      return takesIgnition(log, event, debounceMs) && quiet;
    }
    logMs = Math.max(logMs, event);
    ignition = UNSURE;
    ignitionSinceMs = logMs;
    return false;
  }

  /**
   * Nothing is lower than the highest odometer of any vehicle the terminal sat in. One that is
   * means that the highest is too old to be of use once it is forgotten, but others may have come
   * after it: the next one is whatever is highest while all of those are forgotten in turn.
   */
  private boolean takesOdometer(RowData log, long now, long keepMs) {
    if (log.isNullAt(TerminalUploads.ODOMETER_M)) {
      return true;
    }
    long odometer = log.getLong(TerminalUploads.ODOMETER_M);
    boolean known = now >= highestMs;
    if (known && odometer >= highestM) {
      highestM = odometer;
      highestMs = now;
      return true;
    }
    if (now - highestMs >= keepMs) {
      highestM = odometer;
      highestMs = now + keepMs;
    }
    highestM = Math.max(highestM, odometer);
    return false;
  }

  private boolean takesIgnition(RowData log, long event, long debounceMs) {
    if (log.isNullAt(TerminalUploads.IGNITION_ON) || log.getByte(TerminalUploads.IGNITION_ON) == ignition) {
      return true;
    }
    boolean lasted = event - ignitionSinceMs >= debounceMs;
    ignition = log.getByte(TerminalUploads.IGNITION_ON);
    ignitionSinceMs = event;
    return lasted;
  }

  private boolean takesBoot(RowData boot, long rebootMs) {
    long event = boot.getLong(TerminalUploads.EVENT_MS);
    boolean quiet = event - bootMs > rebootMs;
    bootMs = Math.max(bootMs, event);
    return quiet;
  }
}
