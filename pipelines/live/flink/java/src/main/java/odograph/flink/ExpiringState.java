package odograph.flink;

import java.time.Duration;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.StateTtlConfig;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.table.data.RowData;

/**
 * State that is forgotten a while after it was last written. The time is the cluster's own, so
 * that no clock of a terminal or server can make a job forget early.
 */
final class ExpiringState {
  private final StateTtlConfig forget;

  ExpiringState(long keepMs) {
    forget =
        StateTtlConfig.newBuilder(Duration.ofMillis(keepMs))
            .setUpdateType(StateTtlConfig.UpdateType.OnCreateAndWrite)
            .setStateVisibility(StateTtlConfig.StateVisibility.NeverReturnExpired)
            .cleanupInRocksdbCompactFilter(1000)
            .build();
  }

  MapStateDescriptor<String, RowData> map(String name, Layout layout) {
    MapStateDescriptor<String, RowData> state =
        new MapStateDescriptor<>(name, Types.STRING, layout.typeInfo());
    state.enableTimeToLive(forget);
    return state;
  }

  ValueStateDescriptor<RowData> value(String name, Layout layout) {
    ValueStateDescriptor<RowData> state = new ValueStateDescriptor<>(name, layout.typeInfo());
    state.enableTimeToLive(forget);
    return state;
  }
}
