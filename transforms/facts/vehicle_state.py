"""The newest state of a vehicle or a terminal: groups of columns, each set by one telemetry row.

1. Of an upload only the rows of its highest revision count, and of those none that is gone.
2. A row sets a group if it has a value of it; NaN and infinities are no values. A position needs
   latitude and longitude, and one that is flagged GPS_JUMP is none. Any row sets the group `seen`.
3. Of several rows that set a group the newest does, by ORDER.
4. Of two rows of one upload the higher revision counts, whenever it happened. One from the future,
   which only a wrong clock says, gives way to any row of another upload.
5. Where the higher revision of an upload sets a group earlier than a lower one had set it, or does
   not set it, or not for this vehicle, what the lower one had set is taken back.

Stores keep what of all this they wrote and compare it with what comes; all follow this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.model.arrow_numpy import (
    codes,
    filled_int64,
    plain_texts,
    ranks,
    single,
    sort_with_ties,
)

SEEN, POSITION, JUMP = "seen", "position", "GPS_JUMP"
ORDER = ("event_time", "received_time", "message_id", "sample_idx")
"""Columns by which rows are compared: the first one that differs decides, texts by their bytes.
None depends on how or when a row was judged, or on where on a topic it lies."""


@dataclass(frozen=True)
class Group:
    """Columns that one telemetry row sets together, also to null where it has only some of them."""

    name: str
    columns: tuple[str, ...]

    @property
    def any_row(self) -> bool:
        """Whether any row sets it, whatever it has."""
        return self.name == SEEN

    def of(self, table: pa.Schema) -> bool:
        """Whether rows of a telemetry table can set the group."""
        return self.any_row or any(name in table.names for name in self.columns)


GROUPS = (
    Group(POSITION, ("lat_deg", "lon_deg", "heading_deg", "accuracy_m")),
    Group("speed", ("speed_kmh",)),
    Group("ignition", ("ignition_on", "engine_running")),
    Group("lock", ("locked", "door_open", "door_state_bits")),
    Group("odometer", ("odometer_m",)),
    Group("battery", ("aux_battery_v", "backup_battery_v")),
    Group("energy", ("fuel_level_pct", "ev_soc_pct", "ev_charging")),
)
"""All but `seen`, whose column depends on whose state it is."""


def seen(other: str) -> Group:
    """The group that any row sets. `other` is its column: the terminal of a vehicle, or the vehicle
    of a terminal."""
    return Group(SEEN, (other,))


def values(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """A column with null for what is no value: NaN and infinities."""
    if not pa.types.is_floating(column.type):
        return column
    finite = pc.is_finite(column)
    if pc.all(finite).as_py() is not False:
        return column
    return pc.if_else(finite, column, pa.scalar(None, column.type))


def standing(rows: pa.Table) -> pa.Table:
    """Rows of a revised telemetry table without those that are gone or that others of the same
    upload with a higher revision replace."""
    if pc.any(rows["gone"]).as_py():
        rows = rows.filter(pc.invert(rows["gone"]))
    revision = filled_int64(rows["revision"], 0)
    if not len(revision) or revision.min() == revision.max():
        return rows
    upload = codes(plain_texts(rows["message_id"]))
    highest = np.full(upload.max() + 1, revision.min())
    np.maximum.at(highest, upload, revision)
    return rows.filter(pa.array(revision == highest[upload]))


def can_set(group: Group, rows: pa.Table) -> np.ndarray:
    """bool of shape (rows,): the row may set the group."""
    if group.any_row:
        return np.ones(rows.num_rows, bool)
    if group.name == POSITION:
        located = _has(rows["lat_deg"]) & _has(rows["lon_deg"])
        return np.asarray(located & ~_jumped(rows["quality_flags"]))
    known = [_has(rows[name]) for name in group.columns if name in rows.column_names]
    return np.asarray(np.logical_or.reduce(known))


@dataclass(frozen=True)
class Newest:
    """`order`: numbers of the rows of all vehicles (or terminals), sorted by vehicle, then by
    ORDER; `starts`: where in `order` those of each vehicle begin; `setters`: for each group, where
    in `order` the row stands that sets it for each vehicle, -1 for none. int64 throughout."""

    order: np.ndarray
    starts: np.ndarray
    setters: list[np.ndarray]


def newest(key: str, rows: pa.Table, groups: Sequence[Group]) -> Newest:
    """The newest of `standing` rows of one telemetry table for each vehicle or terminal (column
    `key`) and group; rows without one are left out."""
    keys = plain_texts(rows[key])
    known = np.flatnonzero(np.asarray(keys.is_valid()))
    vehicle = np.full(len(keys), -1)
    vehicle[known] = ranks(keys.take(pa.array(known)))
    event = filled_int64(rows["event_time"], 0)

    def ties(tied: np.ndarray) -> tuple[np.ndarray, ...]:
        same = rows.select(["received_time", "message_id", "sample_idx"]).take(pa.array(tied))
        sample, received = (filled_int64(same[n], 0) for n in ("sample_idx", "received_time"))
        return (
            sample,
            ranks(plain_texts(same["message_id"])),
            received,
            event[tied],
            vehicle[tied],
        )

    order = sort_with_ties(known, (event, vehicle), ties)
    starts = np.flatnonzero(np.diff(vehicle[order], prepend=-1))
    at = np.arange(len(order))
    setters = [
        np.maximum.reduceat(np.where(can_set(group, rows)[order], at, -1), starts)
        for group in groups
    ]
    return Newest(order, starts, setters)


@dataclass(frozen=True)
class Setters:
    """The rows that set a group, one a vehicle; `event_time` is null where none did. Times may be
    texts that sort as times do; a receive time that is null is the earliest."""

    event_time: pa.Array
    received_time: pa.Array
    message_id: pa.Array
    sample_idx: pa.Array
    revision: pa.Array

    def without(self, which: np.ndarray) -> Setters:
        """The same, where `which` (bool a vehicle) is true none."""
        nothing = pa.scalar(None, self.event_time.type)
        return replace(self, event_time=pc.if_else(pa.array(which), nothing, self.event_time))


def newer(incoming: Setters, stored: Setters, latest: pa.Scalar) -> np.ndarray:
    """bool of shape (vehicles,): what is incoming replaces what is stored. Stored rows of an event
    time after `latest` are from the future."""
    same_upload = _true(pc.equal(incoming.message_id, stored.message_id))
    revised = _true(pc.greater(incoming.revision, stored.revision))
    same_revision = _true(pc.equal(incoming.revision, stored.revision))
    future = _true(pc.greater(stored.event_time, latest))
    later = _later(incoming, stored)
    better = np.where(same_upload, revised | (same_revision & later), future | later)
    empty = np.asarray(stored.event_time.is_null())
    return np.asarray(np.asarray(incoming.event_time.is_valid()) & (empty | better))


def uploads(key: str, rows: pa.Table, groups: Sequence[Group]) -> pa.Table:
    """What uploads set under the revision of `standing` rows of one telemetry table. Columns:
    `key`, message_id, revision, and by the name of each group the newest event time at which the
    upload sets it, null where it does not."""
    event = single(rows["event_time"])
    columns = {name: plain_texts(rows[name]) for name in (key, "message_id")}
    columns["revision"] = single(rows["revision"])
    for group in groups:
        able = pa.array(can_set(group, rows))
        columns[group.name] = pc.if_else(able, event, pa.scalar(None, event.type))
    names = ("revision", *(group.name for group in groups))
    made = pa.table(columns).group_by([key, "message_id"])
    made = made.aggregate([(name, "max") for name in names])
    return made.rename_columns([name.removesuffix("_max") for name in made.column_names])


def taken_back(vehicles: pa.Array, stored: Setters, group: Group, known: pa.Table) -> np.ndarray:
    """bool of shape (vehicles,): the row that set the group is one of `known` `uploads` (of the key
    of `vehicles`, with times as `stored` has them), which under a higher revision sets it earlier
    or not at all."""
    messages = single(known["message_id"]).cast(stored.message_id.type)
    ids = pc.unique(messages)
    highest = np.full(len(ids) + 1, np.iinfo(np.int64).min)
    np.maximum.at(highest, _place(messages, ids), filled_int64(known["revision"], 0))
    revised = highest[_place(stored.message_id, ids)] > filled_int64(stored.revision, 0)
    owners = single(known.column(0)).cast(vehicles.type)
    own = _pairs(owners, messages)
    place = pc.index_in(_pairs(vehicles, stored.message_id), value_set=own)
    now = single(known[group.name]).take(place)
    as_late = _true(pc.greater_equal(now, stored.event_time))
    return np.asarray(np.asarray(stored.event_time.is_valid()) & revised & ~as_late)


def _pairs(vehicles: pa.Array, messages: pa.Array) -> pa.Array:
    end = pa.scalar("\0", vehicles.type)
    return pc.binary_join_element_wise(vehicles, messages.cast(vehicles.type), end)


def _place(texts: pa.Array, among: pa.Array) -> np.ndarray:
    """Where each text stands among others, -1 where it does not."""
    return np.asarray(pc.index_in(texts, value_set=among).fill_null(-1)).astype(np.int64)


def _later(these: Setters, those: Setters) -> np.ndarray:
    later = np.zeros(len(these.event_time), bool)
    equal = ~later
    for name in ORDER:
        this, that = getattr(these, name), getattr(those, name)
        only_this = np.asarray(this.is_valid()) & np.asarray(that.is_null())
        later |= equal & (only_this | _true(pc.greater(this, that)))
        equal &= _true(pc.equal(this, that))
        if not equal.any():
            break
    return later


def _true(answers: pa.Array) -> np.ndarray:
    """bool: true where it is neither false nor unknown."""
    return np.asarray(single(answers).fill_null(False).to_numpy(zero_copy_only=False), bool)


def _has(column: pa.ChunkedArray) -> np.ndarray:
    return _true(pc.is_finite(column) if pa.types.is_floating(column.type) else column.is_valid())


def _jumped(column: pa.ChunkedArray) -> np.ndarray:
    lists = single(column)
    jumped = np.zeros(len(lists), bool)
    flags = pc.list_flatten(lists)
    if len(flags):
        here = np.asarray(pc.equal(flags, JUMP).to_numpy(zero_copy_only=False), bool)
        jumped[np.asarray(pc.list_parent_indices(lists))[here]] = True
    return jumped
