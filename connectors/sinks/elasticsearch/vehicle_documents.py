"""Documents of vehicles: the newest state by the rules of transforms/facts/vehicle_state.py.

A state is a row of a frame: the values of each group, and times, revision and key of the telemetry
row that set it. A document has the same without nulls.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from connectors.sinks.elasticsearch.documents import LOCATION, frame_of, point_columns
from connectors.sinks.tables import REVISION, TELEMETRY
from schemas.arrow import UTC_MS
from transforms.facts import vehicle_state
from transforms.facts.vehicle_state import POSITION, Group, Setters, values

KEY = "vehicle_id"
GROUPS = (*vehicle_state.GROUPS, vehicle_state.seen("device_no"))
_TYPES = {field.name: field.type for table in TELEMETRY.values() for field in table.columns}


_SETTER = {
    "event_time": UTC_MS,
    "received_time": UTC_MS,
    "message_id": pa.string(),
    "sample_idx": pa.int32(),
    "revision": REVISION.type,
}


def _fields(group: Group) -> dict[str, str]:
    """Names of what a state has of the row that set a group, by names of _SETTER."""
    received = "received_time" if group.any_row else f"{group.name}_received_time"
    others = {name: f"{group.name}_{name}" for name in _SETTER}
    return others | {"event_time": f"{group.name}_time", "received_time": received}


_FIELDS = {group.name: _fields(group) for group in GROUPS}
_STATE = pa.schema(
    [(KEY, pa.string())]
    + [(name, _TYPES[name]) for group in GROUPS for name in group.columns]
    + [(field, _SETTER[name]) for fields in _FIELDS.values() for name, field in fields.items()]
)
_NOT_SEARCHED = ("_received_time", "_message_id", "_sample_idx", "_revision")
COLUMNS = pa.schema([field for field in _STATE if not field.name.endswith(_NOT_SEARCHED)])
"""What of a document can be searched. It also has receive times, revisions and rows of groups."""
_EMPTY = frame_of(_STATE, _STATE.empty_table())
_BEFORE, _PLAIN = "_before", pl.CompatLevel.oldest()


def newest(rows: pa.Table) -> pl.DataFrame:
    """States, one a vehicle, of `standing` rows of a telemetry table."""
    groups = [group for group in GROUPS if group.of(rows.schema)]
    found = vehicle_state.newest(KEY, rows, groups)
    rows = rows.combine_chunks()
    vehicles = rows[KEY].take(pa.array(found.order[found.starts]))
    state = {KEY: vehicles}
    for group, setters in zip(groups, found.setters, strict=True):
        setting = pa.array(found.order[setters], mask=setters < 0)
        for name in group.columns:
            if name in rows.column_names:
                state[name] = values(rows[name].take(setting))
        for name, field in _FIELDS[group.name].items():
            state[field] = rows[name].take(setting)
    nothing = {name: pa.nulls(len(vehicles), _STATE.field(name).type) for name in _STATE.names}
    return frame_of(_STATE, pa.table(nothing | state, schema=_STATE))


def documents(states: pl.DataFrame) -> pl.DataFrame:
    """States as documents have them: a row's message and sample are its `_id`, `GROUP_row`."""
    parts = {f"{group.name}_row": _row_parts(group) for group in GROUPS}
    ids = [pl.concat_str(pair, separator="-").alias(row) for row, pair in parts.items()]
    return states.with_columns(ids).drop([name for pair in parts.values() for name in pair])


def stored(found: list[dict[str, object]], extra: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Documents as states, with columns `extra` behind."""
    parts = {f"{group.name}_row": _row_parts(group) for group in GROUPS}
    rows = dict.fromkeys(parts, pl.String())
    frame = pl.DataFrame(found, schema={**_EMPTY.schema, **extra, **rows}, strict=False)
    for row, (message, sample) in parts.items():
        own = frame[row].to_arrow(compat_level=_PLAIN)
        key = pc.split_pattern(own, "-", max_splits=1, reverse=True)
        number = pc.list_element(key, 1).cast(pa.int32())
        frame = frame.with_columns(
            pl.Series(message, pc.list_element(key, 0)), pl.Series(sample, number)
        )
    return frame.drop(list(parts))


def _row_parts(group: Group) -> tuple[str, str]:
    fields = _FIELDS[group.name]
    return fields["message_id"], fields["sample_idx"]


def merged(
    known: pl.DataFrame, incoming: pl.DataFrame, latest: str, judged: pa.Table | None = None
) -> pl.DataFrame:
    """States that change a known one or are of a vehicle not known, as they are then. What is known
    of a time after `latest` (as documents have it) is from the future; `judged` are
    `vehicle_state.uploads` that may take something back. Columns that only `known` has are kept."""
    both = incoming.join(known, on=KEY, how="left", suffix=_BEFORE)
    vehicles = both[KEY].to_arrow(compat_level=_PLAIN)
    changed, kept = pl.repeat(False, both.height, eager=True), []
    for group in GROUPS:
        before = _setters(both, group, _BEFORE)
        back = None
        if judged is not None and group.name in judged.column_names:
            back = vehicle_state.taken_back(vehicles, before, group, judged)
            before = before.without(back)
        newer = pl.Series(vehicle_state.newer(_setters(both, group), before, pa.scalar(latest)))
        taken = newer if back is None else newer | pl.Series(back)
        changed |= taken
        kept += [
            pl.when(taken).then(name).otherwise(f"{name}{_BEFORE}").alias(name)
            for name in _FIELDS[group.name].values()
        ]
        # Who was seen last stays: by it a sink searches for what else his uploads set.
        taken = newer if group.any_row else taken
        kept += [
            pl.when(taken).then(name).otherwise(f"{name}{_BEFORE}").alias(name)
            for name in _value_fields(group)
        ]
    extra = [name for name in known.columns if name not in _EMPTY.columns]
    return both.select(KEY, *kept, *extra).filter(changed)


def _value_fields(group: Group) -> tuple[str, ...]:
    """Fields of documents with the values of a group: a point in place of its coordinates."""
    if group.name != POSITION:
        return group.columns
    coordinates = point_columns(LOCATION)
    return (LOCATION, *(name for name in group.columns if name not in coordinates))


def _setters(states: pl.DataFrame, group: Group, suffix: str = "") -> Setters:
    """The rows that set a group, one a state."""
    return Setters(
        **{
            name: states[f"{field}{suffix}"].to_arrow(compat_level=_PLAIN)
            for name, field in _FIELDS[group.name].items()
        }
    )
