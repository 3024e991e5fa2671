"""What is known of a vehicle: groups of fields, each as the last row that had one of them said.

Of each group the row counts that happened last, then that of the higher revision, then of the
higher key; so neither the order of rows nor how often they come makes a difference. Of revisions of
one row the highest counts, also where it says that the row happened earlier than it seemed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from connectors.sinks.elasticsearch.documents import LOCATION, frame_of, point_columns
from connectors.sinks.tables import GONE, REVISION, TELEMETRY, Table
from schemas.arrow import UTC_MS
from transforms.model.arrow_numpy import single

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
_PLACE = {"time": UTC_MS, "revision": REVISION.type, "row": pa.string()}
"""Event time, revision and key of the row that set a group."""
_TYPES = {field.name: field.type for table in TELEMETRY.values() for field in table.columns}


def _read(names: tuple[str, ...]) -> list[str]:
    """The columns of a table that fields of documents are made of."""
    points = {LOCATION: point_columns(LOCATION)}
    return [column for name in names for column in points.get(name, (name,))]


_SAID = pa.schema(
    [(KEY, pa.string())]
    + [(name, _TYPES[name]) for names in GROUPS.values() for name in _read(names)]
    + [(f"{group}_{of}", kind) for group in GROUPS for of, kind in _PLACE.items()]
)
COLUMNS = pa.schema([field for field in _SAID if not field.name.endswith(("_revision", "_row"))])
"""What of a document can be searched. It also holds `*_revision` and `*_row`."""
_EMPTY = frame_of(_SAID, _SAID.empty_table())


def newest(table: Table, rows: pa.Table) -> pl.DataFrame:
    """One row a vehicle (columns as in its document) of rows of a telemetry table."""
    rows = rows.filter(pc.and_(rows[KEY].is_valid(), pc.invert(rows[GONE.name])))
    texts = [pc.cast(rows[name], pa.string()) for name in table.key]
    rows = rows.append_column("row", pc.binary_join_element_wise(*texts, "-")).combine_chunks()
    source = {"time": table.time, "revision": REVISION.name, "row": "row"}
    said = {KEY: rows[KEY].unique()}
    for group, last in _lasts(table, rows).items():
        setting = pa.array(last, mask=last < 0)
        own = {name: name for name in _read(GROUPS[group]) if name in rows.column_names}
        for to, name in (own | {f"{group}_{of}": name for of, name in source.items()}).items():
            said[to] = rows[name].take(setting)
    nothing = {name: pa.nulls(len(said[KEY]), _SAID.field(name).type) for name in _SAID.names}
    return frame_of(_SAID, pa.table(nothing | said, schema=_SAID))


def _lasts(table: Table, rows: pa.Table) -> dict[str, np.ndarray]:
    """By group, for each vehicle in the order of appearance, which row sets it; -1 for none."""
    by = [(name, "ascending") for name in (table.time, REVISION.name, "row")]
    order = pc.sort_indices(rows, by).to_numpy()
    vehicle, vehicles = _codes(rows[KEY])
    row, different = _codes(rows["row"])
    revision = rows[REVISION.name].to_numpy()
    repeated = different < rows.num_rows
    if repeated:
        known, pair = np.unique(row * vehicles + vehicle, return_inverse=True)
    lasts = {}
    for group, names in GROUPS.items():
        present = _present(rows, names)
        if present is None:
            continue
        if repeated:
            highest = np.full(len(known), -1)
            np.maximum.at(highest, pair[present], revision[present])
            present &= revision == highest[pair]
        setting = order[present[order]]
        last = np.full(vehicles, -1)
        last[vehicle[setting]] = setting
        lasts[group] = last
    return lasts


def _codes(texts: pa.ChunkedArray) -> tuple[np.ndarray, int]:
    """Numbers that tell texts apart, in the order of appearance, and how many there are."""
    encoded = single(texts).dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)


def _present(rows: pa.Table, names: tuple[str, ...]) -> np.ndarray | None:
    """Which rows say one of these; None where the table has no such columns."""
    known = [
        np.logical_and.reduce([_given(rows[part]) for part in _read((name,))])
        for name in names
        if set(_read((name,))) <= set(rows.column_names)
    ]
    return np.logical_or.reduce(known) if known else None


def _given(values: pa.ChunkedArray) -> np.ndarray:
    finite = pa.types.is_floating(values.type)
    given = pc.fill_null(pc.is_finite(values), False) if finite else values.is_valid()
    return np.asarray(given.to_numpy(), bool)


def stored(documents: list[dict[str, object]], extra: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Documents as states, with columns `extra` behind."""
    return pl.DataFrame(documents, schema={**_EMPTY.schema, **extra}, strict=False)


def merged(known: pl.DataFrame, said: pl.DataFrame, latest: str) -> pl.DataFrame:
    """States that change a known one or are of a vehicle not known, as they are then. What is known
    of a time after `latest` (as documents have it) was said under a wrong clock: any other row is
    newer. Columns that only `known` has are kept."""
    both = said.join(known, on=KEY, how="left", suffix="_before")
    both = both.with_columns(_newer(group, latest).alias(group) for group in GROUPS)
    both = both.filter(pl.any_horizontal(*GROUPS))
    kept = [
        pl.when(group).then(name).otherwise(f"{name}_before").alias(name)
        for group, names in GROUPS.items()
        for name in (*names, *(f"{group}_{of}" for of in _PLACE))
    ]
    extra = [name for name in known.columns if name not in _EMPTY.columns]
    return both.select(KEY, *kept, *extra)


def _newer(group: str, latest: str) -> pl.Expr:
    time, revision, row = (pl.col(f"{group}_{of}") for of in _PLACE)
    was, revised, by = (pl.col(f"{group}_{of}_before") for of in _PLACE)
    tie = (revision > revised) | ((revision == revised) & (row > by))
    later = (was > latest) | (time > was) | ((time == was) & tie)
    better = pl.when(row == by).then(revision > revised).otherwise(later)
    return time.is_not_null() & (was.is_null() | better.fill_null(False))
