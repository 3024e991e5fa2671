"""Dead letters of rows that a store refused of whole days, beside the lake's others.

A table and date of a store has one object of them. What is handed on again, by another run too,
takes the place of the dead letters that the same rows had before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.lake.write import aligned, parquet_bytes
from connectors.sinks.tables import REVISION, TABLES, Table
from connectors.storage.folder import unless_changed
from pipelines.backfill.day_loads import Load, store_name
from pipelines.backfill.spec import BackfillSpec
from transforms.model.dead_letters import DEAD_SCHEMA

Key = tuple[Any, ...]


def replace_letters(
    spec: BackfillSpec, one: Load, files: Iterable[Any], refused: pa.RecordBatch
) -> None:
    """Leave dead letters of what was `refused` of a load, and of no other row in its `files`.
    Raises DependencyFailed, also where others write the same object again and again."""
    unless_changed(f"{spec.lake}/{name_of(one)}", lambda: _replace(spec, one, files, refused))


def name_of(one: Load) -> str:
    """Name of the lake object with the dead letters of a store's table and date."""
    place = f"dead_letters/date={one.day}/hour=00"
    return f"{place}/{store_name(one.store)}+{one.table}+{one.day}+refused.parquet"


def _replace(spec: BackfillSpec, one: Load, files: Iterable[Any], refused: pa.RecordBatch) -> None:
    name = name_of(one)
    letters = [pa.Table.from_batches([refused], DEAD_SCHEMA)]
    found = spec.tables.read_version(name)
    if found is not None:
        before = aligned(pq.read_table(pa.BufferReader(found[0])), DEAD_SCHEMA)
        letters.append(_still_true(TABLES[one.table], before, files))
    newest, version = _newest(pa.concat_tables(letters)), found[1] if found else None
    if newest.num_rows:
        spec.tables.replace(name, parquet_bytes(newest), version)
    elif version is not None:
        spec.tables.delete_version(name, version)


def _still_true(table: Table, letters: pa.Table, files: Iterable[Any]) -> pa.Table:
    """Letters without those whose row, or a newer one of its key, is in `files`."""
    rows = [orjson.loads(value) for value in letters["raw_value"].to_pylist()]
    first = table.key[0]
    wanted = pa.array({row[first] for row in rows}, table.columns.field(first).type)
    handed_on: dict[Key, int] = {}
    for file in files:
        found = pq.read_table(file, columns=[*table.key, REVISION.name])
        for row in found.filter(pc.is_in(found[first], value_set=wanted)).to_pylist():
            key = _key(table, orjson.loads(orjson.dumps(row)))
            handed_on[key] = max(handed_on.get(key, row[REVISION.name]), row[REVISION.name])
    stays = [handed_on.get(_key(table, row), -1) < row[REVISION.name] for row in rows]
    return letters.filter(pa.array(stays, pa.bool_()))


def _key(table: Table, row: dict[str, Any]) -> Key:
    return tuple(row[name] for name in table.key)


def _newest(letters: pa.Table) -> pa.Table:
    """One letter an id, of the row of the highest revision."""
    revisions = [orjson.loads(value)[REVISION.name] for value in letters["raw_value"].to_pylist()]
    order = sorted(range(len(revisions)), key=revisions.__getitem__)
    ids = letters["dead_letter_id"].to_pylist()
    places = {ids[place]: place for place in order}
    return letters.take(pa.array([places[one] for one in sorted(places)], pa.int64()))
