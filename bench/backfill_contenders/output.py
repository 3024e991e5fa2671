"""What the contenders of the usual kinds write: rows and minutes as Parquet, zstd.

Column names and types of the lake; the engine-free core has its own.
"""

import pyarrow as pa

MS = pa.timestamp("ms", "UTC")
HEAD = [
    ("message_id", pa.string()),
    ("sample_idx", pa.int32()),
    ("device_no", pa.string()),
    ("vehicle_id", pa.string()),
    ("event_time", MS),
    ("device_time", MS),
    ("received_time", MS),
    ("time_source", pa.string()),
    ("quality_flags", pa.list_(pa.string())),
    ("binding_status", pa.string()),
    ("binding_version", pa.int64()),
    ("topic", pa.string()),
    ("partition", pa.int32()),
    ("offset", pa.int64()),
    ("object", pa.string()),
    ("line", pa.int64()),
    ("device_gen", pa.string()),
    ("firmware_version", pa.string()),
    ("boot_count", pa.int32()),
    ("seq", pa.int64()),
    ("uptime_s", pa.int64()),
    ("extras", pa.map_(pa.string(), pa.string())),
]
FLOAT, BOOL = pa.float32(), pa.bool_()
PAYLOAD = {
    "gps": [
        ("lat_deg", pa.float64()),
        ("lon_deg", pa.float64()),
        ("fix_type", pa.string()),
        ("altitude_m", FLOAT),
        ("speed_kmh", FLOAT),
        ("heading_deg", FLOAT),
        ("hdop", FLOAT),
        ("accuracy_m", FLOAT),
        ("satellites", pa.int32()),
    ],
    "log": [
        ("lat_deg", pa.float64()),
        ("lon_deg", pa.float64()),
        ("ignition_on", BOOL),
        ("engine_running", BOOL),
        ("speed_kmh", FLOAT),
        ("odometer_m", pa.int64()),
        ("fuel_level_pct", FLOAT),
        ("ev_soc_pct", FLOAT),
        ("ev_charging", BOOL),
        ("aux_battery_v", FLOAT),
        ("backup_battery_v", FLOAT),
        ("engine_rpm", FLOAT),
        ("coolant_temp_c", FLOAT),
        ("cabin_temp_c", FLOAT),
        ("heading_deg", FLOAT),
        ("door_state_bits", pa.int32()),
        ("door_open", BOOL),
        ("locked", BOOL),
        ("headlamp_on", BOOL),
        ("tire_pressure_kpa", pa.list_(FLOAT)),
        ("dtc_codes", pa.list_(pa.string())),
        ("cell_rssi_dbm", pa.int32()),
    ],
}
ROWS = {kind: pa.schema(HEAD + columns) for kind, columns in PAYLOAD.items()}
MINUTES = pa.schema(
    [
        ("vehicle_id", pa.string()),
        ("minute", MS),
        ("revision", pa.int32()),
        ("device_nos", pa.list_(pa.string())),
        ("n_uploads", pa.int64()),
        ("n_samples", pa.int64()),
        ("n_flagged", pa.int64()),
        ("speed_min_kmh", FLOAT),
        ("speed_max_kmh", FLOAT),
        ("speed_sum_kmh", pa.float64()),
        ("speed_n", pa.int64()),
        ("speed_sumsq", pa.float64()),
        ("distance_gps_m", pa.float64()),
        ("odo_first_m", pa.int64()),
        ("odo_last_m", pa.int64()),
        ("odo_resets", pa.int32()),
        ("driving_s", pa.int32()),
        ("idle_s", pa.int32()),
        ("ignition_on_s", pa.int32()),
        ("overspeed_s", pa.int32()),
        ("aux_battery_min_v", FLOAT),
        ("aux_battery_last_v", FLOAT),
        ("fuel_last_pct", FLOAT),
        ("soc_last_pct", FLOAT),
        ("first_time", MS),
        ("first_lat_deg", pa.float64()),
        ("first_lon_deg", pa.float64()),
        ("last_time", MS),
        ("last_lat_deg", pa.float64()),
        ("last_lon_deg", pa.float64()),
    ]
)


def plain(schema):
    """The schema without logical types: times stay integers, which is faster."""
    if isinstance(schema, list):
        return [plain(part) for part in schema]
    if isinstance(schema, dict):
        return {k: plain(v) for k, v in schema.items() if k != "logicalType"}
    return schema
