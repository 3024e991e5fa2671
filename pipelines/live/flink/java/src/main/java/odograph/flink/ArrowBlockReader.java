package odograph.flink;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;

/** Reads the rows of a block that Python (or {@link ArrowBlockWriter}) wrote. */
public final class ArrowBlockReader {
  private final Layout layout;
  private final ByteBuffer in;
  private final int rows;
  private final int[] validAt;
  private final int[] endsAt;
  private final int[] dataAt;

  public ArrowBlockReader(Layout layout, byte[] block, int start) {
    this.layout = layout;
    in = ByteBuffer.wrap(block).order(ByteOrder.LITTLE_ENDIAN);
    rows = Math.toIntExact(in.getLong(start));
    validAt = new int[layout.size()];
    endsAt = new int[layout.size()];
    dataAt = new int[layout.size()];
    int at = start + 8;
    for (int i = 0; i < layout.size(); i++) {
      validAt[i] = at;
      at += layout.nullable[i] ? padded((rows + 7) >> 3) : 0;
      endsAt[i] = at;
      int width = layout.kinds[i].width;
      at += width == 0 ? padded(4 * (rows + 1)) : 0;
      dataAt[i] = at;
      at += padded(width == 0 ? in.getInt(endsAt[i] + 4 * rows) : width * rows);
    }
  }

  public int rows() {
    return rows;
  }

  public RowData row(int r) {
    GenericRowData row = new GenericRowData(layout.size());
    for (int i = 0; i < layout.size(); i++) {
      boolean absent = layout.nullable[i] && (in.get(validAt[i] + (r >> 3)) >> (r & 7) & 1) == 0;
      row.setField(i, absent ? null : value(i, r));
    }
    return row;
  }

  private Object value(int i, int r) {
    switch (layout.kinds[i]) {
      case STRING:
        return StringData.fromBytes(slice(i, r));
      case BYTES:
        return slice(i, r);
      case LONG:
        return in.getLong(dataAt[i] + 8 * r);
      case INT:
        return in.getInt(dataAt[i] + 4 * r);
      default:
        return in.get(dataAt[i] + r);
    }
  }

  private byte[] slice(int i, int r) {
    int from = in.getInt(endsAt[i] + 4 * r);
    byte[] out = new byte[in.getInt(endsAt[i] + 4 * r + 4) - from];
    in.get(dataAt[i] + from, out);
    return out;
  }

  private static int padded(int size) {
    return (size + 7) & ~7;
  }
}
