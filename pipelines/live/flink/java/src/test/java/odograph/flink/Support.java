package odograph.flink;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.api.common.typeutils.base.array.BytePrimitiveArraySerializer;
import org.apache.flink.api.java.functions.KeySelector;
import org.apache.flink.runtime.checkpoint.OperatorSubtaskState;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.util.AbstractStreamOperatorTestHarness;
import org.apache.flink.streaming.util.KeyedOneInputStreamOperatorTestHarness;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;

/** Rows and blocks as texts, and operators on a clock that only a test moves. */
final class Support {
  static final int MAX_PARALLELISM = 128;
  static final TypeSerializer<byte[]> BLOCKS = BytePrimitiveArraySerializer.INSTANCE;

  private Support() {}

  static RowData row(Object... values) {
    GenericRowData row = new GenericRowData(values.length);
    for (int i = 0; i < values.length; i++) {
      row.setField(
          i, values[i] instanceof String ? StringData.fromString((String) values[i]) : values[i]);
    }
    return row;
  }

  static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  /** What an upload adds to minutes of vehicle v: {@code minute, partial} pairs. */
  static byte[] parts(Object... minutes) {
    ByteBuffer out = ByteBuffer.allocate(1024).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < minutes.length; i += 2) {
      part(out, "v", (int) minutes[i], (String) minutes[i + 1]);
    }
    return Arrays.copyOf(out.array(), out.position());
  }

  static void part(ByteBuffer out, String vehicle, long minute, String partial) {
    out.putLong(minute).putInt(vehicle.length()).putInt(partial.length());
    out.put(bytes(vehicle)).put(bytes(partial));
  }

  /** Values of a row in the order of its layout, separated by spaces. */
  static String text(Layout layout, RowData row) {
    List<String> values = new ArrayList<>();
    for (int i = 0; i < layout.size(); i++) {
      values.add(row.isNullAt(i) ? "null" : value(layout.kinds[i], row, i));
    }
    return String.join(" ", values);
  }

  private static String value(Layout.Kind kind, RowData row, int i) {
    switch (kind) {
      case STRING:
        return row.getString(i).toString();
      case BYTES:
        return new String(row.getBinary(i), StandardCharsets.UTF_8);
      case LONG:
        return Long.toString(row.getLong(i));
      case INT:
        return Integer.toString(row.getInt(i));
      default:
        return Byte.toString(row.getByte(i));
    }
  }

  /** The rows of a block as texts. */
  static List<String> texts(Layout layout, byte[] block) {
    List<String> texts = new ArrayList<>();
    ArrowBlockReader reader = new ArrowBlockReader(layout, block, 0);
    for (int r = 0; r < reader.rows(); r++) {
      texts.add(text(layout, reader.row(r)));
    }
    return texts;
  }

  static <T> KeyedOneInputStreamOperatorTestHarness<String, RowData, T> opened(
      OneInputStreamOperator<RowData, T> operator,
      KeySelector<RowData, String> key,
      TypeSerializer<T> out,
      OperatorSubtaskState from)
      throws Exception {
    return opened(operator, key, out, from, 1, 0);
  }

  static <T> KeyedOneInputStreamOperatorTestHarness<String, RowData, T> opened(
      OneInputStreamOperator<RowData, T> operator,
      KeySelector<RowData, String> key,
      TypeSerializer<T> out,
      OperatorSubtaskState from,
      int subtasks,
      int subtask)
      throws Exception {
    var harness =
        new KeyedOneInputStreamOperatorTestHarness<>(
            operator, key, Types.STRING, MAX_PARALLELISM, subtasks, subtask);
    harness.setup(out);
    harness.initializeState(from);
    harness.open();
    return harness;
  }

  /** Both clocks of the cluster: the one timers follow and the one state is forgotten by. */
  static void at(AbstractStreamOperatorTestHarness<?> harness, long ms) throws Exception {
    harness.setStateTtlProcessingTime(ms);
    harness.setProcessingTime(ms);
  }

  static OperatorSubtaskState checkpoint(AbstractStreamOperatorTestHarness<?> harness)
      throws Exception {
    harness.prepareSnapshotPreBarrier(1);
    return harness.snapshot(1, harness.getProcessingTime());
  }

  /** What a subtask restores of the state of {@code from} others. */
  static OperatorSubtaskState share(OperatorSubtaskState all, int from, int subtasks, int subtask) {
    return AbstractStreamOperatorTestHarness.repartitionOperatorState(
        all, MAX_PARALLELISM, from, subtasks, subtask);
  }

  /** What came out since the last call. */
  static <T> List<T> taken(AbstractStreamOperatorTestHarness<T> harness) {
    List<T> values = harness.extractOutputValues();
    harness.getOutput().clear();
    return values;
  }
}
