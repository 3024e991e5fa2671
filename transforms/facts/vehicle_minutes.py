"""Stage 8, minutes: partials (what one upload adds to a vehicle's minute), and how they merge.

How a field merges stands in `vehicle_minute.avsc`, so that stream and backfill cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import Field, load
from schemas.arrow import column as schema_column
from schemas.arrow import record_schema
from transforms.model.arrow_numpy import filled_int64, floats, identities, ranks, single, sort_rows
from transforms.model.quality_flags import BIT
from transforms.model.thresholds import Minutes

MINUTE_MS = 60_000
MINUTES = record_schema("vehicle_minute")
READINGS = ("odometer", "battery", "fuel", "soc", "position")


def _partial_schema() -> pa.Schema:
    fields = [pa.field("message_id", pa.string(), nullable=False)]
    for field in load("vehicle_minute").fields:
        if field.name == "device_nos":
            fields.append(pa.field("device_no", pa.string(), nullable=False))
        elif field.name != "revision":
            fields.append(schema_column(field))
    for reading in READINGS:
        fields.append(pa.field(f"{reading}_first_ms", pa.int64()))
        fields.append(pa.field(f"{reading}_last_ms", pa.int64()))
    return pa.schema(fields)


PARTIALS = _partial_schema()
"""One upload in one minute of one vehicle; `<reading>_first_ms` and `_last_ms` are the event
times of the samples that `first` and `last` fields of that reading come from."""


_MISSING = np.iinfo(np.int64).min
_NEVER = np.iinfo(np.int64).max


class Groups:
    """Runs of rows in which all keys are equal, and reductions over them. There must be at least
    one row; results are of shape (groups,)."""

    def __init__(self, *keys: np.ndarray) -> None:
        change = np.ones(len(keys[0]), bool)
        change[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
        self.count = len(keys[0])
        self.starts = np.flatnonzero(change)
        self.sizes = np.diff(np.append(self.starts, self.count))

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum of each group."""
        return np.asarray(np.add.reduceat(values, self.starts))

    def tally(self, mask: np.ndarray) -> np.ndarray:
        """How many rows of each group are true."""
        return self.sum(mask.astype(np.int64))

    def lowest(self, values: np.ndarray) -> np.ndarray:
        """Minimum of each group, NaN only where all are."""
        return np.asarray(np.fmin.reduceat(values, self.starts))

    def highest(self, values: np.ndarray) -> np.ndarray:
        """Maximum of each group, NaN only where all are."""
        return np.asarray(np.fmax.reduceat(values, self.starts))

    def earliest(self, times: np.ndarray) -> np.ndarray:
        """Least known time of each group (int64 ms, _MISSING where unknown)."""
        known = np.where(times == _MISSING, _NEVER, times)
        return np.asarray(np.minimum.reduceat(known, self.starts))

    def latest(self, times: np.ndarray) -> np.ndarray:
        """Greatest known time of each group (int64 ms, _MISSING where unknown)."""
        return np.asarray(np.maximum.reduceat(times, self.starts))

    def first(self, present: np.ndarray) -> np.ndarray:
        """Row of the first present value of each group, -1 for none."""
        rows = np.where(present, np.arange(self.count), self.count)
        first = np.minimum.reduceat(rows, self.starts)
        return np.where(first == self.count, -1, first)

    def last(self, present: np.ndarray) -> np.ndarray:
        """Row of the last present value of each group, -1 for none."""
        rows = np.where(present, np.arange(self.count), -1)
        return np.asarray(np.maximum.reduceat(rows, self.starts))


@dataclass(frozen=True)
class Counted:
    """Samples that feed the minutes: all of one message type and bound to a vehicle, in event
    order within each upload. `rows` are `Uploads.rows` with final flags; the other arrays are of
    shape (rows,): `step_m` metres of distance, `event_ms` epoch ms, `ignition` (logs, debounced)
    1 on, 0 off, -1 unknown; the three ids are dictionary arrays."""

    message_type: str
    rows: pa.RecordBatch
    upload: np.ndarray
    event_ms: np.ndarray
    step_m: np.ndarray
    ignition: np.ndarray
    message_id: pa.DictionaryArray
    device_no: pa.DictionaryArray
    vehicle_id: pa.DictionaryArray

    def floats(self, name: str) -> np.ndarray:
        """float64 of shape (rows,), NaN where null."""
        return floats(self.rows.column(name))

    def flagged(self, name: str) -> np.ndarray:
        """bool of shape (rows,)."""
        return np.asarray(np.asarray(self.rows.column("flags")) & BIT[name], bool)


Values = dict[str, "pa.Array | np.ndarray"]


def partials(counted: Counted, rules: Minutes) -> pa.RecordBatch:
    """Partials (`PARTIALS`): one row for each upload, minute and vehicle."""
    event_ms = counted.event_ms
    if not len(event_ms):
        return pa.RecordBatch.from_pylist([], schema=PARTIALS)
    minute = event_ms // MINUTE_MS
    groups = Groups(counted.upload, minute, np.asarray(counted.vehicle_id.indices))
    first = pa.array(groups.starts)
    values: Values = {
        "message_id": _plain(counted.message_id, first),
        "device_no": _plain(counted.device_no, first),
        "vehicle_id": _plain(counted.vehicle_id, first),
        "minute": minute[groups.starts] * MINUTE_MS,
        "n_uploads": np.ones(len(groups.starts), np.int64),
        "n_samples": groups.sizes,
        "n_flagged": groups.tally(np.asarray(counted.rows.column("flags")) != 0),
        "distance_gps_m": groups.sum(counted.step_m),
        "first_time": event_ms[groups.starts],
        "last_time": event_ms[groups.starts + groups.sizes - 1],
    }
    if counted.message_type != "boot":
        values |= _speeds(counted, groups, rules)
    if counted.message_type == "log":
        values |= _log(counted, groups, rules)
    if counted.message_type in ("log", "boot"):
        values |= _battery(counted, groups)
    if counted.message_type in ("log", "gps"):
        values |= _position(counted, groups)
    if counted.message_type in ("kinematic", "adas"):
        values |= _events(counted, groups)
    return _batch(values, len(groups.starts))


def _plain(column: pa.DictionaryArray, at: pa.Array) -> pa.Array:
    return column.dictionary.take(column.indices.take(at))


def _speeds(counted: Counted, groups: Groups, rules: Minutes) -> Values:
    speed = counted.floats("speed_kmh")
    present = ~np.isnan(speed)
    known = np.where(present, speed, 0.0)
    values: Values = {
        "speed_n": groups.tally(present),
        "speed_sum_kmh": groups.sum(known),
        "speed_sumsq": groups.sum(known * known),
        "speed_min_kmh": groups.lowest(speed),
    }
    if counted.message_type == "gps":
        values["driving_s"] = groups.tally(known >= rules.driving_kmh)
        values["overspeed_s"] = groups.tally(known > rules.overspeed_kmh)
        jumped = counted.flagged("GPS_JUMP")
        speed = np.where(jumped, np.nan, speed) if jumped.any() else speed
    values["speed_max_kmh"] = groups.highest(speed)
    return values


def _log(counted: Counted, groups: Groups, rules: Minutes) -> Values:
    on = counted.ignition == 1
    with np.errstate(invalid="ignore"):
        idle = on & (counted.floats("speed_kmh") < rules.idle_kmh)
    values: Values = {
        "ignition_on_s": groups.tally(on) * rules.log_interval_s,
        "idle_s": groups.tally(idle) * rules.log_interval_s,
        "odo_resets": groups.tally(counted.flagged("ODO_RESET")),
    }
    values |= _reading(counted, groups, "odometer", "odometer_m", "odo_first_m", "odo_last_m")
    values |= _reading(counted, groups, "fuel", "fuel_level_pct", None, "fuel_last_pct")
    return values | _reading(counted, groups, "soc", "ev_soc_pct", None, "soc_last_pct")


def _battery(counted: Counted, groups: Groups) -> Values:
    values: Values = {"aux_battery_min_v": groups.lowest(counted.floats("aux_battery_v"))}
    last = _reading(counted, groups, "battery", "aux_battery_v", None, "aux_battery_last_v")
    return values | last


def _position(counted: Counted, groups: Groups) -> Values:
    values = _reading(
        counted, groups, "position", "lat_deg", "first_lat_deg", "last_lat_deg", "GPS_JUMP"
    )
    return values | _reading(
        counted, groups, "position", "lon_deg", "first_lon_deg", "last_lon_deg", "GPS_JUMP"
    )


def _reading(
    counted: Counted,
    groups: Groups,
    reading: str,
    source: str,
    first_name: str | None,
    last_name: str,
    unless: str | None = None,
) -> Values:
    """First and last value of `source` in each group, and when they were read."""
    column = counted.rows.column(source)
    present = np.asarray(column.is_valid())
    if unless is not None:
        present = present & ~counted.flagged(unless)
    if not present.any():
        return {}
    first, last = groups.first(present), groups.last(present)
    values: Values = {
        f"{reading}_first_ms": _taken(pa.array(counted.event_ms), first),
        f"{reading}_last_ms": _taken(pa.array(counted.event_ms), last),
        last_name: _taken(column, last),
    }
    if first_name is not None:
        values[first_name] = _taken(column, first)
    return values


def _taken(column: pa.Array, rows: np.ndarray) -> pa.Array:
    return column.take(pa.array(rows, mask=rows < 0))


_EVENT_FIELDS = {
    "HARSH_BRAKE": "harsh_brake_n",
    "HARSH_ACCEL": "harsh_accel_n",
    "HARSH_TURN_LEFT": "harsh_turn_n",
    "HARSH_TURN_RIGHT": "harsh_turn_n",
}


def _events(counted: Counted, groups: Groups) -> Values:
    if counted.message_type == "adas":
        warning = counted.rows.column("warning_type")
        quiet = np.asarray(pc.equal(warning, "NONE").fill_null(True))
        return {"adas_n": groups.tally(~quiet)}
    scored = np.asarray(counted.rows.column("axis_calibrated").fill_null(True))
    values: Values = {}
    for event, name in _EVENT_FIELDS.items():
        happened = np.asarray(pc.equal(counted.rows.column("event_type"), event).fill_null(False))
        values[name] = values.get(name, 0) + groups.tally(happened & scored)
    return values


def _batch(values: Values, count: int) -> pa.RecordBatch:
    columns = []
    for field in PARTIALS:
        value = values.get(field.name)
        if value is None:
            empty = None if field.nullable else 0
            columns.append(pa.repeat(pa.scalar(empty, field.type), count))
            continue
        array = value if isinstance(value, pa.Array) else pa.array(value, from_pandas=True)
        if pa.types.is_timestamp(field.type):
            array = array.cast(pa.timestamp("ms"))
        columns.append(array.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=PARTIALS)


def merge(parts: pa.Table) -> pa.Table:
    """Vehicle minutes (`vehicle_minute.avsc`) out of partials in any order.

    A second partial of the same message_id, vehicle and minute is left out. Sums run in the
    order of message_id, so that the same partials give the same bits.
    """
    if not parts.num_rows:
        return MINUTES.empty_table()
    parts = parts.combine_chunks()
    vehicle, minute = ranks(parts["vehicle_id"]), filled_int64(parts["minute"], 0)
    message, by_text = identities(parts["message_id"])
    order = sort_rows(np.arange(len(vehicle)), (message, *by_text, minute, vehicle))
    keys = (vehicle[order], minute[order], message[order])
    fresh = np.ones(len(order), bool)
    fresh[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    order = order[fresh]
    parts = parts.take(pa.array(order)).combine_chunks()
    vehicle, minute = vehicle[order], minute[order]
    groups = Groups(vehicle, minute)
    columns = [_merged(parts, groups, field) for field in load("vehicle_minute").fields]
    return pa.Table.from_arrays(columns, schema=MINUTES)


def _merged(parts: pa.Table, groups: Groups, field: Field) -> pa.Array:
    kind = MINUTES.field(field.name).type
    if field.name == "revision":
        return pa.array(np.zeros(len(groups.starts), np.int32))
    if field.name == "device_nos":
        return _union(single(parts["device_no"]), groups)
    column = single(parts[field.name])
    if field.merge is None:
        return column.take(pa.array(groups.starts))
    if field.merge in ("first", "last"):
        times = filled_int64(single(parts[f"{field.at}_{field.merge}_ms"]), _MISSING)
        return _earliest_or_latest(column, times, groups, field.merge)
    exact = not pa.types.is_floating(kind)
    numbers = filled_int64(column, _MISSING) if exact else floats(column)
    if field.merge == "sum":
        return pa.array(groups.sum(numbers)).cast(kind)
    reduced = groups.lowest(numbers) if field.merge == "min" else groups.highest(numbers)
    if exact and pa.types.is_timestamp(kind):
        return pa.array(reduced).cast(pa.timestamp("ms")).cast(kind)
    return pa.array(reduced, from_pandas=True).cast(kind)


def _earliest_or_latest(
    column: pa.Array, times: np.ndarray, groups: Groups, merge: str
) -> pa.Array:
    """The value of the earliest or latest reading; of equal times the order of message_id
    decides."""
    wanted = groups.earliest(times) if merge == "first" else groups.latest(times)
    known = (times != _MISSING) & (times == np.repeat(wanted, groups.sizes))
    rows = groups.first(known) if merge == "first" else groups.last(known)
    return _taken(column, rows)


def _union(texts: pa.Array, groups: Groups) -> pa.ListArray:
    """The distinct texts of each group, sorted."""
    rank = ranks(texts)
    group = np.repeat(np.arange(len(groups.starts)), groups.sizes)
    order = np.lexsort((rank, group))
    fresh = np.ones(len(order), bool)
    fresh[1:] = (rank[order][1:] != rank[order][:-1]) | (group[order][1:] != group[order][:-1])
    chosen = order[fresh]
    offsets = np.searchsorted(group[chosen], np.arange(len(groups.starts) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), texts.take(pa.array(chosen)))
