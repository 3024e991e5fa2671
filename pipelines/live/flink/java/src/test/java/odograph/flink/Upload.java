package odograph.flink;

import org.apache.flink.table.data.RowData;

/** An upload summary of a test; what does not matter for being quiet is made up. */
final class Upload {
  private static long offsets;

  private final String terminal;
  private final String message;
  private final byte type;
  private final long eventMs;
  private byte kind;
  private int partition = 1;
  private long offset = offsets++;
  private long receivedMs;
  private long content = 1;
  private Long odometerM;
  private Byte ignitionOn;
  private byte[] parts = new byte[0];

  private Upload(String terminal, String message, int type, byte kind, long eventMs) {
    this.terminal = terminal;
    this.message = message;
    this.type = (byte) type;
    this.kind = kind;
    this.eventMs = eventMs;
    receivedMs = eventMs;
  }

  static Upload log(String terminal, String message, long eventMs) {
    return new Upload(terminal, message, TerminalHistory.LOG, TerminalHistory.HISTORY, eventMs);
  }

  static Upload boot(String terminal, String message, long eventMs) {
    return new Upload(terminal, message, 1, TerminalHistory.HISTORY, eventMs);
  }

  static Upload gps(String terminal, String message, long eventMs) {
    return new Upload(terminal, message, 2, (byte) 0, eventMs);
  }

  Upload suspect() {
    kind = TerminalHistory.SUSPECT;
    return this;
  }

  Upload odometer(long metres) {
    odometerM = metres;
    return this;
  }

  Upload ignition(int on) {
    ignitionOn = (byte) on;
    return this;
  }

  Upload received(long ms) {
    receivedMs = ms;
    return this;
  }

  Upload content(long hash) {
    content = hash;
    return this;
  }

  /** What it adds to minutes: {@code minute, partial} pairs, all of vehicle v. */
  Upload adds(Object... minutes) {
    parts = Support.parts(minutes);
    return this;
  }

  Upload place(int partition, long offset) {
    this.partition = partition;
    this.offset = offset;
    return this;
  }

  /**
   * Values 1 on: terminal, message, kind, type, partition, offset, received, event, content,
   * odometer, ignition; the last two may be empty.
   */
  static Upload of(String[] values) {
    Upload upload =
        new Upload(
            values[1],
            values[2],
            Integer.parseInt(values[4]),
            Byte.parseByte(values[3]),
            Long.parseLong(values[8]));
    upload.place(Integer.parseInt(values[5]), Long.parseLong(values[6]));
    upload.received(Long.parseLong(values[7])).content(Long.parseLong(values[9]));
    if (!values[10].isEmpty()) {
      upload.odometer(Long.parseLong(values[10]));
    }
    if (!values[11].isEmpty()) {
      upload.ignition(Integer.parseInt(values[11]));
    }
    return upload;
  }

  RowData row() {
    return Support.row(
        terminal, message, kind, type, "message", partition, offset, receivedMs, eventMs, eventMs,
        null, null, null, 1, 1, content, odometerM, ignitionOn, receivedMs, null, null, null, parts);
  }
}
