package odograph.flink;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import org.apache.flink.table.data.RowData;

/**
 * Collects rows and writes them as one block: row count, then each column's Arrow buffers
 * (validity bitmap where nullable, int32 offsets for texts and bytes, values), little-endian, each
 * padded to 8 bytes. Python reads the buffers in place.
 */
public final class ArrowBlockWriter {
  private static final byte[] NOTHING = new byte[0];
  private static final VarHandle LONGS =
      MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
  private static final int LARGEST_NUMBER = 8;

  private final Layout layout;
  private final byte[][] data;
  private final int[] used;
  private final int[][] ends;
  private final byte[][] valid;
  private int rows;

  public ArrowBlockWriter(Layout layout) {
    this.layout = layout;
    data = new byte[layout.size()][1 << 12];
    used = new int[layout.size()];
    ends = new int[layout.size()][256];
    valid = new byte[layout.size()][32];
  }

  public int rows() {
    return rows;
  }

  /** Bytes of values collected so far. */
  public long bytes() {
    long sum = 0;
    for (int size : used) {
      sum += size;
    }
    return sum;
  }

  public void add(RowData row) {
    for (int i = 0; i < data.length; i++) {
      boolean present = !layout.nullable[i] || !row.isNullAt(i);
      if (layout.nullable[i]) {
        mark(i, present);
      }
      put(i, row, present);
    }
    rows++;
  }

  private void mark(int i, boolean present) {
    if (rows >> 3 >= valid[i].length) {
      valid[i] = Arrays.copyOf(valid[i], valid[i].length * 2);
    }
    if (present) {
      valid[i][rows >> 3] |= (byte) (1 << (rows & 7));
    }
  }

  private void put(int i, RowData row, boolean present) {
    switch (layout.kinds[i]) {
      case STRING:
        append(i, present ? row.getString(i).toBytes() : NOTHING);
        break;
      case BYTES:
        append(i, present ? row.getBinary(i) : NOTHING);
        break;
      case LONG:
        number(i, present ? row.getLong(i) : 0, 8);
        break;
      case INT:
        number(i, present ? row.getInt(i) : 0, 4);
        break;
      default:
        number(i, present ? row.getByte(i) : 0, 1);
    }
  }

  private void append(int i, byte[] value) {
    room(i, value.length);
    System.arraycopy(value, 0, data[i], used[i], value.length);
    used[i] += value.length;
    if (rows >= ends[i].length) {
      ends[i] = Arrays.copyOf(ends[i], ends[i].length * 2);
    }
    ends[i][rows] = used[i];
  }

  private void number(int i, long value, int width) {
    room(i, LARGEST_NUMBER);
    LONGS.set(data[i], used[i], value);
    used[i] += width;
  }

  private void room(int i, int more) {
    if (used[i] + more > data[i].length) {
      data[i] = Arrays.copyOf(data[i], Math.max(data[i].length * 2, used[i] + more));
    }
  }

  /** The block; what was collected is forgotten. */
  public byte[] take() {
    int size = 8;
    for (int i = 0; i < data.length; i++) {
      size += layout.nullable[i] ? padded((rows + 7) >> 3) : 0;
      size += layout.kinds[i].width == 0 ? padded(4 * (rows + 1)) : 0;
      size += padded(used[i]);
    }
    ByteBuffer out = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
    out.putLong(rows);
    for (int i = 0; i < data.length; i++) {
      if (layout.nullable[i]) {
        out.put(valid[i], 0, (rows + 7) >> 3);
        align(out);
        Arrays.fill(valid[i], 0, (rows + 7) >> 3, (byte) 0);
      }
      if (layout.kinds[i].width == 0) {
        out.putInt(0);
        out.asIntBuffer().put(ends[i], 0, rows);
        out.position(out.position() + 4 * rows);
        align(out);
      }
      out.put(data[i], 0, used[i]);
      align(out);
      used[i] = 0;
    }
    rows = 0;
    return out.array();
  }

  private static int padded(int size) {
    return (size + 7) & ~7;
  }

  private static void align(ByteBuffer out) {
    out.position(padded(out.position()));
  }
}
