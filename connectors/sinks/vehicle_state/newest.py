"""The rows that are sent to the database: the newest of each vehicle or terminal and group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from connectors.sinks.vehicle_state.columns import Kind, StoredGroup, sent
from transforms.facts import vehicle_state
from transforms.model.arrow_numpy import filled_int64, single


@dataclass(frozen=True)
class Choice:
    """Rows of `sent(kind, groups)`. In each of the `rounds` a vehicle or terminal is there once,
    and they are sorted by it; most are in the first one only, with its newest row."""

    kind: Kind
    groups: tuple[StoredGroup, ...]
    rounds: list[pa.RecordBatch]

    @property
    def keys(self) -> list[str]:
        """The vehicles or terminals, sorted."""
        return self.rounds[0].column(0).to_pylist() if self.rounds else []


def newest(kind: Kind, rows: pa.Table) -> Choice:
    """The newest of `standing` rows for each vehicle or terminal and group; rows without one are
    left out."""
    groups = kind.groups(rows.schema)
    found = vehicle_state.newest(kind.key, rows, groups)
    order, starts = found.order, found.starts
    if not len(starts):
        return Choice(kind, groups, [])
    chosen = np.unique(np.concatenate(found.setters))
    chosen = chosen[chosen >= 0]
    sets = np.zeros(len(chosen), np.int32)
    for bit, setters in enumerate(found.setters):
        sets[np.searchsorted(chosen, setters[setters >= 0])] |= 1 << bit
    owner = np.searchsorted(starts, chosen, side="right") - 1
    received = filled_int64(rows["received_time"], 0)
    last = np.maximum.reduceat(received[order], starts)[owner]
    batch = _sent(sent(kind, groups), rows, order[chosen], last, sets)
    behind = np.searchsorted(owner, owner, side="right") - 1 - np.arange(len(chosen))
    rounds = [batch.filter(pa.array(behind == number)) for number in range(behind.max() + 1)]
    return Choice(kind, groups, rounds)


def _sent(
    schema: pa.Schema, rows: pa.Table, numbers: np.ndarray, last: np.ndarray, sets: np.ndarray
) -> pa.RecordBatch:
    """The rows of these numbers, without values that are none."""
    taken = rows.select([name for name in schema.names if name in rows.column_names])
    taken = taken.take(pa.array(numbers))
    made = {
        "last_received_time": pa.array(last).cast(schema.field("last_received_time").type),
        "sets": pa.array(sets),
    }
    columns = [
        made[field.name]
        if field.name in made
        else vehicle_state.values(single(taken[field.name])).cast(field.type)
        if field.name in taken.column_names
        else pa.nulls(len(numbers), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
