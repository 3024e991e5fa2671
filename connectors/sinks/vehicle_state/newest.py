"""Which rows of a batch can be the newest of a vehicle or a terminal: one a group of columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.sinks.vehicle_state.columns import POSITION, ROW, Group, Kind, sent
from transforms.model.arrow_numpy import codes, filled_int64, ranks, single, sort_rows

_NULLS_LAST = np.iinfo(np.int64).max


def standing(rows: pa.Table) -> pa.Table:
    """Rows of a revised telemetry table without those that are gone or that others of the same
    upload with a higher revision replace."""
    gone = rows["gone"]
    if pc.any(gone).as_py():
        rows = rows.filter(pc.invert(gone))
    revision = filled_int64(rows["revision"], 0)
    if not len(revision) or revision.min() == revision.max():
        return rows
    upload = codes(texts(rows["message_id"]))
    highest = np.full(upload.max() + 1, revision.min())
    np.maximum.at(highest, upload, revision)
    return rows.filter(pa.array(revision == highest[upload]))


@dataclass(frozen=True)
class Choice:
    """Rows of `sent(kind, groups)`. In each of the `rounds` a vehicle or terminal is there once,
    and they are sorted by it; most are in the first one only, with its newest row."""

    kind: Kind
    groups: tuple[Group, ...]
    rounds: list[pa.RecordBatch]

    @property
    def keys(self) -> list[str]:
        """The vehicles or terminals, sorted."""
        return self.rounds[0].column(0).to_pylist() if self.rounds else []


def newest(kind: Kind, rows: pa.Table) -> Choice:
    """The newest of `standing` rows for each vehicle or terminal and group; rows without one are
    left out. Rows of one event time are told apart by receive time, then by ROW."""
    groups = kind.groups(rows.schema)
    keys = texts(rows[kind.key])
    known = np.flatnonzero(np.asarray(keys.is_valid()))
    if not len(known):
        return Choice(kind, groups, [])
    owner = np.zeros(len(keys), np.int64)
    owner[known] = ranks(keys.take(pa.array(known)))
    received = filled_int64(rows["received_time"], 0)
    order = sort_rows(known, _age(rows, received, owner))
    starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
    place = np.arange(len(order))
    picked = [
        np.maximum.reduceat(np.where(present(group, rows)[order], place, -1), starts)
        for group in groups
    ]
    chosen = np.unique(np.concatenate(picked))
    chosen = chosen[chosen >= 0]
    sets = np.zeros(len(chosen), np.int32)
    for bit, places in enumerate(picked):
        sets[np.searchsorted(chosen, places[places >= 0])] |= 1 << bit
    owner_of = np.searchsorted(starts, chosen, side="right") - 1
    last = np.maximum.reduceat(received[order], starts)[owner_of]
    found = _sent(kind, groups, rows, order[chosen], last, sets)
    behind = np.searchsorted(owner_of, owner_of, side="right") - 1 - np.arange(len(chosen))
    rounds = [found.filter(pa.array(behind == number)) for number in range(behind.max() + 1)]
    return Choice(kind, groups, rounds)


def present(group: Group, rows: pa.Table) -> np.ndarray:
    """bool of shape (rows,): the row can set the group. A position that jumped cannot."""
    if group.any_row:
        return np.ones(rows.num_rows, bool)
    given = [_valid(rows[name]) for name in group.columns if name in rows.column_names]
    if group is not POSITION:
        return np.asarray(np.logical_or.reduce(given))
    located = _valid(rows["lat_deg"]) & _valid(rows["lon_deg"])
    return np.asarray(located & ~_jumped(rows["quality_flags"]))


def _valid(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(single(pc.is_valid(column)).to_numpy(zero_copy_only=False), bool)


def _jumped(column: pa.ChunkedArray) -> np.ndarray:
    lists = single(column)
    jumped = np.zeros(len(lists), bool)
    flags = pc.list_flatten(lists)
    if len(flags):
        here = np.asarray(pc.equal(flags, "GPS_JUMP").to_numpy(zero_copy_only=False), bool)
        jumped[np.asarray(pc.list_parent_indices(lists))[here]] = True
    return jumped


def texts(column: pa.ChunkedArray) -> pa.Array:
    """A column of texts as one plain array."""
    found = single(column)
    return found.cast(pa.string()) if pa.types.is_dictionary(found.type) else found


def _age(rows: pa.Table, received: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sort keys, the last counts first: the order in which Postgres compares a `telemetry_row`."""
    place = [
        ranks(texts(rows[name])) if name == "topic" else filled_int64(rows[name], _NULLS_LAST)
        for name in ROW.names
        if name != "message_id"
    ]
    return (*reversed(place), received, filled_int64(rows["event_time"], 0), owner)


def _sent(
    kind: Kind,
    groups: tuple[Group, ...],
    rows: pa.Table,
    at: np.ndarray,
    last: np.ndarray,
    sets: np.ndarray,
) -> pa.RecordBatch:
    schema = sent(kind, groups)
    taken = rows.select([name for name in schema.names if name in rows.column_names])
    taken = taken.take(pa.array(at))
    made = {
        "last_received_time": pa.array(last).cast(schema.field("last_received_time").type),
        "sets": pa.array(sets),
    }
    columns = [
        made[field.name]
        if field.name in made
        else single(taken[field.name]).cast(field.type)
        if field.name in taken.column_names
        else pa.nulls(len(at), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
