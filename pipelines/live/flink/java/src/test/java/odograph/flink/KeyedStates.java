package odograph.flink;

import java.lang.reflect.Field;
import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.flink.api.common.typeutils.CompositeSerializer;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.api.common.typeutils.base.MapSerializer;
import org.apache.flink.core.fs.FSDataInputStream;
import org.apache.flink.core.memory.DataInputViewStreamWrapper;
import org.apache.flink.runtime.state.KeyedBackendSerializationProxy;
import org.apache.flink.runtime.state.KeyedStateHandle;
import org.apache.flink.runtime.state.StreamStateHandle;
import org.apache.flink.runtime.state.metainfo.StateMetaInfoSnapshot;
import org.apache.flink.runtime.state.metainfo.StateMetaInfoSnapshot.BackendStateType;
import org.apache.flink.runtime.state.metainfo.StateMetaInfoSnapshot.CommonSerializerKeys;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.runtime.typeutils.RowDataSerializer;
import org.apache.flink.table.types.logical.LogicalType;

/** What an operator's savepoint holds by key, read from the head of one. */
final class KeyedStates {
  private KeyedStates() {}

  /**
   * By name: {@code map} or {@code value} and the kinds of the row's columns, behind {@code
   * expires} where it is forgotten after a time; or {@code timers}.
   */
  static Map<String, String> of(OneInputStreamOperator<RowData, ?> operator) throws Exception {
    Map<String, String> states = new TreeMap<>();
    try (var harness = Support.opened(operator, row -> "key", null, null)) {
      for (KeyedStateHandle handle : harness.snapshot(1, 1).getManagedKeyedState()) {
        try (FSDataInputStream in = ((StreamStateHandle) handle).openInputStream()) {
          var head = new KeyedBackendSerializationProxy<>(KeyedStates.class.getClassLoader());
          head.read(new DataInputViewStreamWrapper(in));
          for (StateMetaInfoSnapshot state : head.getStateMetaInfoSnapshots()) {
            states.put(state.getName(), kind(state));
          }
        }
      }
    }
    return states;
  }

  private static String kind(StateMetaInfoSnapshot state) throws Exception {
    if (state.getBackendStateType() == BackendStateType.PRIORITY_QUEUE) {
      return "timers";
    }
    return text(
        state.getTypeSerializerSnapshot(CommonSerializerKeys.VALUE_SERIALIZER).restoreSerializer());
  }

  private static String text(TypeSerializer<?> serializer) throws Exception {
    if (serializer instanceof MapSerializer<?, ?> map) {
      return "map " + text(map.getValueSerializer());
    }
    if (serializer instanceof RowDataSerializer row) {
      return Arrays.stream((LogicalType[]) field(RowDataSerializer.class, row, "types"))
          .map(type -> type.getTypeRoot().toString().toLowerCase())
          .collect(Collectors.joining(","));
    }
    if (serializer instanceof CompositeSerializer<?> expiring) {
      TypeSerializer<?>[] parts =
          (TypeSerializer<?>[]) field(CompositeSerializer.class, expiring, "fieldSerializers");
      return "expires " + text(parts[1]);
    }
    return serializer.getClass().getSimpleName();
  }

  private static Object field(Class<?> of, Object from, String name) throws Exception {
    Field field = of.getDeclaredField(name);
    field.setAccessible(true);
    return field.get(from);
  }
}
