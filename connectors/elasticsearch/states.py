"""What is known of a vehicle: groups of fields, each as the last row that had one of them said.

Of each group the row counts that happened last, then that of the higher revision, then of the
higher key; so neither the order of rows nor how often they come makes a difference.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pyarrow as pa

from connectors.elasticsearch.documents import LOCATION, frame_of, point_columns
from connectors.tables import GONE, REVISION, TELEMETRY, Table
from schemas.arrow import UTC_MS

KEY = "vehicle_id"
GROUPS = {
    "position": (LOCATION, "heading_deg"),
    "speed": ("speed_kmh",),
    "ignition": ("ignition_on", "engine_running"),
    "lock": ("locked", "door_open"),
    "odometer": ("odometer_m",),
    "battery": ("aux_battery_v", "backup_battery_v"),
    "energy": ("fuel_level_pct", "ev_soc_pct", "ev_charging"),
    "seen": ("device_no", "received_time"),
}
_FIELDS = {field.name: field for table in TELEMETRY.values() for field in table.columns}
_SET = [name for names in GROUPS.values() for name in names]
COLUMNS = pa.schema(
    [_FIELDS[KEY]]
    + [_FIELDS[name] for name in (*point_columns(LOCATION), *_SET) if name in _FIELDS]
    + [pa.field(f"{group}_time", UTC_MS) for group in GROUPS]
)
"""What of a document can be searched. It also holds `*_revision` and `*_row`, revision and key of
the row that set a group."""
_POINT = pl.Struct({"lat": pl.Float64(), "lon": pl.Float64()})
_NAMES = [KEY, *_SET] + [f"{group}_{of}" for group in GROUPS for of in ("time", "revision", "row")]


def newest(table: Table, rows: pa.Table) -> pl.DataFrame:
    """One row a vehicle (columns as in its document) of rows of a telemetry table."""
    frame = frame_of(table.columns, rows)
    frame = frame.filter(pl.col(KEY).is_not_null() & ~pl.col(GONE.name))
    frame = frame.with_columns(row=pl.concat_str(table.key, separator="-"))
    frame = frame.sort(table.time, REVISION.name, "row")
    states = frame.select(KEY).unique(maintain_order=True)
    for group, names in GROUPS.items():
        own = [name for name in names if name in frame.columns]
        if own:
            said = frame.filter(pl.any_horizontal(pl.col(own).is_not_null()))
            said = said.unique(KEY, keep="last", maintain_order=True)
            place = {"time": table.time, "revision": REVISION.name, "row": "row"}
            named = [pl.col(name).alias(f"{group}_{of}") for of, name in place.items()]
            states = states.join(said.select(KEY, *own, *named), on=KEY, how="left")
    return shaped(states)


def shaped(states: pl.DataFrame) -> pl.DataFrame:
    """The same with all columns a document may have."""
    absent = [pl.lit(None, _type(name)).alias(name) for name in _NAMES if name not in states]
    return states.with_columns(absent).select(pl.col(name).cast(_type(name)) for name in _NAMES)


def stored(documents: list[dict[str, object]], extra: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Documents as states, with columns `extra` behind."""
    schema = {**{name: _type(name) for name in _NAMES}, **extra}
    return pl.DataFrame(documents, schema=schema, strict=False)


def merged(known: pl.DataFrame, said: pl.DataFrame) -> pl.DataFrame:
    """States that change a known one or are of a vehicle not known, as they are then. Columns that
    only `known` has are kept."""
    both = said.join(known, on=KEY, how="left", suffix="_before")
    newer = {group: _newer(group) for group in GROUPS}
    columns = [pl.col(KEY)]
    for group, names in GROUPS.items():
        for name in (*names, *(f"{group}_{of}" for of in ("time", "revision", "row"))):
            kept = pl.when(newer[group]).then(pl.col(name)).otherwise(pl.col(f"{name}_before"))
            columns.append(kept.alias(name))
    extra = [name for name in known.columns if name not in _NAMES]
    return both.filter(pl.any_horizontal(newer.values())).select(*columns, *extra)


def _newer(group: str) -> pl.Expr:
    time, revision, row = (pl.col(f"{group}_{of}") for of in ("time", "revision", "row"))
    was, revised, by = (pl.col(f"{group}_{of}_before") for of in ("time", "revision", "row"))
    tie = (revision > revised) | ((revision == revised) & (row > by))
    later = was.is_null() | (time > was) | ((time == was) & tie)
    return time.is_not_null() & later.fill_null(False)


def _type(name: str) -> pl.DataType:
    if name == LOCATION:
        return _POINT
    if name.endswith("_revision"):
        return pl.Int64()
    kind = _FIELDS[name].type if name in _FIELDS else pa.string()
    if pa.types.is_timestamp(kind):
        return pl.String()
    made = pl.from_arrow(pa.nulls(0, kind))
    assert isinstance(made, pl.Series)
    return made.dtype
