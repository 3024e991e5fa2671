"""Rows to write, and what the store must hold of them then."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from connectors.sinks.tables import TELEMETRY

GPS, LOG = TELEMETRY["gps"], TELEMETRY["log"]
OF_ROWS = r"/_bulk\?(?!.*_seq_no)"
"""Bulk requests with telemetry; those with vehicles, on their way meanwhile, ask for more."""
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
FILLED = {
    "device_no": "T-1",
    "device_gen": "STS",
    "time_source": "DEVICE",
    "binding_status": "BOUND",
    "topic": "message-gps",
    "partition": 3,
    "line": 0,
    "quality_flags": [],
    "fix_type": "FIX_3D",
    "tire_pressure_kpa": [],
    "dtc_codes": [],
    "lat_deg": 37.5,
    "lon_deg": 127.0,
}


def at(seconds):
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def row(table, message_id, sample_idx=0, seconds=0, revision=1, gone=False, **values):
    """A row of `table.revised`."""
    time = at(seconds)
    given = {"event_time": time, "received_time": time, "vehicle_id": "V-1", **FILLED, **values}
    given |= {"message_id": message_id, "sample_idx": sample_idx}
    given |= {"revision": revision, "gone": gone}
    return {name: given.get(name) for name in table.revised.names}


def table_of(table, rows):
    """Rows as a sink gets them."""
    return pa.Table.from_pylist(rows, schema=table.revised)


def some(table, count, **values):
    """As many rows, a second apart."""
    return table_of(table, [row(table, f"m{n}", seconds=n, **values) for n in range(count)])


def oracle(*tables):
    """What a store of keyed, revised rows holds after these: (part, key) to revision."""
    held = {}
    for rows in tables:
        for one in rows.to_pylist():
            key = (f"{one['event_time']:%Y.%m.%d}", f"{one['message_id']}-{one['sample_idx']}")
            if key not in held or one["revision"] > held[key][0]:
                held[key] = (one["revision"], one["gone"])
    return {key: revision for key, (revision, gone) in held.items() if not gone}
