package odograph.flink;

import org.apache.flink.api.java.functions.KeySelector;
import org.apache.flink.table.data.RowData;

/** What rows are keyed by. */
public final class Keys {
  private Keys() {}

  /** A text column. */
  public static final class Text implements KeySelector<RowData, String> {
    private static final long serialVersionUID = 1L;
    private final int at;

    public Text(Layout layout, String column) {
      at = layout.at(column);
    }

    @Override
    public String getKey(RowData row) {
      return row.getString(at).toString();
    }
  }

  /** A vehicle and a minute. */
  public static final class VehicleMinute implements KeySelector<RowData, String> {
    private static final long serialVersionUID = 1L;

    @Override
    public String getKey(RowData part) {
      return part.getLong(VehicleMinutes.MINUTE) + "|" + part.getString(VehicleMinutes.VEHICLE);
    }
  }
}
