package odograph.flink;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/**
 * What one upload adds to minutes, as Python packs it: part after part, each a minute (int64), the
 * sizes of a vehicle_id and of a partial (int32 each), little-endian, then both. A part without
 * partial only says where.
 */
final class UploadPartials {
  private static final int HEAD = 16;

  private final ByteBuffer in;
  private int next;
  private int vehicleAt;
  private int partialAt;

  UploadPartials(byte[] packed) {
    in = ByteBuffer.wrap(packed).order(ByteOrder.LITTLE_ENDIAN);
  }

  /** Go on to the next part; false when there is none. */
  boolean next() {
    if (next >= in.capacity()) {
      return false;
    }
    vehicleAt = next + HEAD;
    partialAt = vehicleAt + in.getInt(next + 8);
    next = partialAt + in.getInt(next + 12);
    return true;
  }

  long minute() {
    return in.getLong(vehicleAt - HEAD);
  }

  String vehicle() {
    return new String(in.array(), vehicleAt, partialAt - vehicleAt, StandardCharsets.UTF_8);
  }

  byte[] partial() {
    byte[] partial = new byte[next - partialAt];
    in.get(partialAt, partial);
    return partial;
  }

  /** Whether the part is of the same minute and vehicle as the one {@code other} stands at. */
  boolean sameTarget(UploadPartials other) {
    int size = partialAt - vehicleAt;
    return minute() == other.minute()
        && size == other.partialAt - other.vehicleAt
        && in.slice(vehicleAt, size).equals(other.in.slice(other.vehicleAt, size));
  }

  /** The same parts without their partials. */
  static byte[] targets(byte[] packed) {
    ByteBuffer out = ByteBuffer.allocate(packed.length).order(ByteOrder.LITTLE_ENDIAN);
    UploadPartials parts = new UploadPartials(packed);
    while (parts.next()) {
      int start = parts.vehicleAt - HEAD;
      out.put(packed, start, parts.partialAt - start);
      out.putInt(out.position() - (parts.partialAt - start) + 12, 0);
    }
    byte[] targets = new byte[out.position()];
    out.get(0, targets);
    return targets;
  }
}
