package odograph.flink;

import java.io.Serializable;
import java.util.Arrays;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.IntType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.TinyIntType;
import org.apache.flink.table.types.logical.VarBinaryType;
import org.apache.flink.table.types.logical.VarCharType;

/**
 * The columns of a block, as written by Python: {@code name:kind} separated by commas, kind one of
 * string, bytes, long, int, byte, followed by {@code ?} where values may be null.
 */
public final class Layout implements Serializable {
  private static final long serialVersionUID = 1L;

  /** How a column lies in a block: its width in bytes, 0 for texts and bytes. */
  public enum Kind {
    STRING(0),
    BYTES(0),
    LONG(8),
    INT(4),
    BYTE(1);

    final int width;

    Kind(int width) {
      this.width = width;
    }
  }

  final String[] names;
  final Kind[] kinds;
  final boolean[] nullable;

  public Layout(String text) {
    String[] columns = text.split(",");
    names = new String[columns.length];
    kinds = new Kind[columns.length];
    nullable = new boolean[columns.length];
    for (int i = 0; i < columns.length; i++) {
      String[] parts = columns[i].split(":");
      names[i] = parts[0];
      nullable[i] = parts[1].endsWith("?");
      kinds[i] = Kind.valueOf(parts[1].replace("?", "").toUpperCase());
    }
  }

  public int size() {
    return names.length;
  }

  /** Position of a column. Throws IllegalArgumentException for a name that is none. */
  public int at(String name) {
    int found = Arrays.asList(names).indexOf(name);
    if (found < 0) {
      throw new IllegalArgumentException(
          "no column " + name + " among " + String.join(", ", names));
    }
    return found;
  }

  /** A copy of a row whose fields can be set. */
  GenericRowData copy(RowData row) {
    GenericRowData copy = new GenericRowData(names.length);
    for (int i = 0; i < names.length; i++) {
      copy.setField(i, row.isNullAt(i) ? null : value(row, i));
    }
    return copy;
  }

  private Object value(RowData row, int i) {
    switch (kinds[i]) {
      case STRING:
        return row.getString(i);
      case BYTES:
        return row.getBinary(i);
      case LONG:
        return row.getLong(i);
      case INT:
        return row.getInt(i);
      default:
        return row.getByte(i);
    }
  }

  public RowType rowType() {
    LogicalType[] types = new LogicalType[names.length];
    for (int i = 0; i < types.length; i++) {
      types[i] = type(kinds[i]);
    }
    return RowType.of(types, names);
  }

  public InternalTypeInfo<RowData> typeInfo() {
    return InternalTypeInfo.of(rowType());
  }

  private static LogicalType type(Kind kind) {
    switch (kind) {
      case STRING:
        return new VarCharType(VarCharType.MAX_LENGTH);
      case BYTES:
        return new VarBinaryType(VarBinaryType.MAX_LENGTH);
      case LONG:
        return new BigIntType();
      case INT:
        return new IntType();
      default:
        return new TinyIntType();
    }
  }
}
