"""Facts as the rows that stores get: with their revision, or gone (`Table.revised`)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from connectors.sinks.tables import GONE, MINUTES, REVISION, Table, first_look, recorded
from transforms.encode.read_vehicle_minutes import Minutes
from transforms.model.arrow_numpy import filled_int64


def looked_at(table: Table, telemetry: pa.RecordBatch) -> pa.Table:
    """Rows that were judged by themselves."""
    received = filled_int64(telemetry.column("received_time"), 0)
    return _rows(table, telemetry, first_look(received, filled_int64(telemetry["partition"], 0)))


def revised(table: Table, facts: pa.RecordBatch | pa.Table, known: int) -> pa.Table:
    """Rows of revision `known`."""
    return _rows(table, facts, np.full(facts.num_rows, known, np.int64))


def gone_rows(table: Table, keys: pa.RecordBatch, known: int) -> pa.Table:
    """Rows of revision `known` that take away others; `keys` has the table's key and time."""
    return _gone(table, keys, np.full(keys.num_rows, known, np.int64))


def minute_rows(minutes: Minutes) -> pa.Table:
    """Rows of the table of minutes, and `gone` ones of minutes that are empty now. The later record
    of a minute counts."""
    parts = []
    for keys, make in ((minutes.facts, _rows), (minutes.emptied, _gone)):
        stamp, offset = (filled_int64(keys.column(n), 0) for n in ("timestamp", "offset"))
        parts.append(make(MINUTES, keys, recorded(stamp, offset)))
    return pa.concat_tables(parts)


def _rows(table: Table, facts: pa.RecordBatch | pa.Table, revisions: np.ndarray) -> pa.Table:
    own = {name: facts.column(name) for name in facts.schema.names}
    own |= {
        REVISION.name: pa.array(revisions),
        GONE.name: pa.repeat(pa.scalar(False), len(revisions)),
    }
    wanted = table.revised
    return pa.table([own[f.name].cast(f.type) for f in wanted], schema=wanted)


def _gone(table: Table, keys: pa.RecordBatch, revisions: np.ndarray) -> pa.Table:
    count = len(revisions)
    own = {name: keys.column(name) for name in (*table.key, table.time)}
    own |= {REVISION.name: pa.array(revisions), GONE.name: pa.repeat(pa.scalar(True), count)}
    wanted = table.revised
    return pa.table([own.get(f.name, _blank(f, count)) for f in wanted], schema=wanted)


def _blank(field: pa.Field, count: int) -> pa.Array:
    """Nothing, said in the way the column allows."""
    if field.nullable:
        return pa.nulls(count, field.type)
    if pa.types.is_list(field.type):
        ends = pa.array(np.zeros(count + 1, np.int32))
        return pa.ListArray.from_arrays(ends, pa.array([], field.type.value_type))
    if pa.types.is_string(field.type):
        return pa.repeat(pa.scalar(""), count)
    return pa.repeat(pa.scalar(0), count).cast(field.type)
