package odograph.flink;

import java.io.IOException;
import java.io.InputStream;
import java.io.Serializable;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.StringJoiner;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
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
 * The columns of a row or block. Those that both sides know, and those of state, stand in {@code
 * schemas/layouts.json}, which Python reads too.
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

  /**
   * {@code name:kind} separated by commas, kind one of string, bytes, long, int, byte, followed by
   * {@code ?} where values may be null.
   */
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

  private static final String FILE = "/schemas/layouts.json";

  /** The layouts of the file by name. */
  private static final class Shared {
    static final Map<String, Layout> LAYOUTS = read();

    private static Map<String, Layout> read() {
      Map<String, String> texts = new HashMap<>();
      Map<String, Layout> layouts = new HashMap<>();
      try (InputStream in = Layout.class.getResourceAsStream(FILE)) {
        for (Map.Entry<String, JsonNode> one : new ObjectMapper().readTree(in).properties()) {
          StringJoiner text = new StringJoiner(",");
          for (Map.Entry<String, JsonNode> column : one.getValue().properties()) {
            String kind = column.getValue().asText();
            text.add(
                column.getKey().equals("extends") ? texts.get(kind) : column.getKey() + ":" + kind);
          }
          texts.put(one.getKey(), text.toString());
          layouts.put(one.getKey(), new Layout(text.toString()));
        }
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
      return Map.copyOf(layouts);
    }
  }

  /** The layout of this name in the file. Throws IllegalArgumentException where there is none. */
  public static Layout of(String name) {
    Layout layout = Shared.LAYOUTS.get(name);
    if (layout == null) {
      throw new IllegalArgumentException("no layout " + name + " in " + FILE);
    }
    return layout;
  }

  /** Every layout of the file by name. */
  static Map<String, Layout> all() {
    return Shared.LAYOUTS;
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

  @Override
  public String toString() {
    StringJoiner text = new StringJoiner(",");
    for (int i = 0; i < names.length; i++) {
      text.add(names[i] + ":" + kinds[i].name().toLowerCase() + (nullable[i] ? "?" : ""));
    }
    return text.toString();
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
