"""The stores that a backfill writes to besides its lake.

A row's key may have been written by an earlier run that knew less. So an object's rows go with the
revision of this run, and keys that the lake had of it, and it no longer has, go as `gone` with the
one below: another object may have taken them over in this run. Stores that take whole days get all
rows of a day together, in the end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.lake.merged_objects import SOURCE
from connectors.lake.names import is_merged
from connectors.lake.write import TableWriter
from connectors.retries import DeliverySettings
from connectors.sinks.contract import DaySink, Sink
from connectors.sinks.tables import MINUTES, TABLES, Table, revision
from pipelines.backfill.day_load_dead_letters import replace_letters
from pipelines.backfill.day_loads import Files, Load, put_by, takes_days, waiting
from pipelines.backfill.spec import BackfillSpec
from pipelines.open_sink import open_sink, tables_of
from pipelines.row_revisions import gone_rows, revised
from schemas.arrow import UTC_MS
from transforms.model.dead_letters import all_dead


@dataclass(frozen=True)
class Opened:
    """A sink, the names of the tables it keeps, and whose `turn` it is to write: workers may be
    threads of one process."""

    sink: Sink
    tables: frozenset[str]
    turn: threading.Lock = field(default_factory=threading.Lock)


_opened: dict[str, Opened] = {}
_lock = threading.Lock()


def sink_of(spec: BackfillSpec, store: DeliverySettings) -> Opened:
    """A store of a job, opened once a process."""
    tables = tables_of(store)
    name = repr((store, spec.database))
    with _lock:
        if name not in _opened:
            sink = open_sink(store, spec.database)
            sink.prepare(tables)
            _opened[name] = Opened(sink, frozenset(table.name for table in tables))
    return _opened[name]


@dataclass
class Delivery:
    """Rows of one object, or one hour of minutes, on their way to the stores of a job. `refused`
    are those that stores will never take, as dead letters."""

    spec: BackfillSpec
    refused: list[pa.RecordBatch] = field(default_factory=list)
    _keys: dict[str, list[pa.Table]] = field(default_factory=dict)

    def put(self, table: Table, facts: pa.RecordBatch | pa.Table) -> None:
        """Rows as they are now. Raises DependencyFailed."""
        if not self.spec.stores or not facts.num_rows:
            return
        self._keys.setdefault(table.name, []).append(_keys_of(table, facts))
        self._write(table, revised(table, facts, revision(self.spec.known_ms)))

    def gone(self, before: Iterable[tuple[Table, pa.Table]]) -> None:
        """What was there `before` and is not among the rows put. Raises DependencyFailed."""
        for table, facts in before if self.spec.stores else ():
            now = pa.concat_tables([_none(table), *self._keys.get(table.name, [])])
            on = [*table.key, "part"]
            lost = _keys_of(table, facts).join(now.select(on), keys=on, join_type="left anti")
            for keys in lost.combine_chunks().to_batches():
                self._write(table, gone_rows(table, keys, revision(self.spec.known_ms) - 1))

    def _write(self, table: Table, rows: pa.Table) -> None:
        for store in self.spec.stores:
            there = sink_of(self.spec, store)
            if takes_days(store):
                put_by(self.spec, store, table, rows)
            elif table.name in there.tables:
                with there.turn:
                    self.refused.append(there.sink.write(table, rows).refused)

    def letters(self) -> pa.RecordBatch:
        """All that was refused."""
        return all_dead(self.refused)


def _keys_of(table: Table, facts: pa.RecordBatch | pa.Table) -> pa.Table:
    """Key, time, and the part of a store that a row lies in."""
    columns = {name: facts.column(name) for name in (*table.key, table.time)}
    columns["part"] = pc.floor_temporal(columns[table.time], unit="day")
    return pa.table(columns).cast(_none(table).schema)


def _none(table: Table) -> pa.Table:
    names = dict.fromkeys((*table.key, table.time))
    fields = [table.columns.field(name) for name in names]
    return pa.schema([*fields, pa.field("part", UTC_MS)]).empty_table()


def rows_before(
    spec: BackfillSpec, name: str, files: Iterable[str]
) -> Iterator[tuple[Table, pa.Table]]:
    """Keys and times of the rows that a lake has of an archive object, by table, given its files
    there, some of which may have been merged."""
    for file in files if spec.stores else ():
        table = TABLES.get(file.partition("/")[0])
        if table is None:
            continue
        columns = list(dict.fromkeys((*table.key, table.time)))
        data = spec.tables.read(file)
        if data is not None:
            yield table, pq.read_table(pa.BufferReader(data), columns=columns)
            continue
        source = SOURCE.get(table.name)
        if source is None:
            continue
        place = spec.tables.child(file.rpartition("/")[0])
        for other, _ in place.names():
            if is_merged(other):
                merged = pq.read_table(
                    pa.BufferReader(place.read(other)),
                    columns=columns,
                    filters=pc.field(source) == name,
                )
                yield table, merged


def load(spec: BackfillSpec, one: Load) -> None:
    """Hand on what waits of a day; what was loaded before and is gone is not missed. Rows that the
    store will never take become dead letters of the lake. Raises DependencyFailed."""
    there = sink_of(spec, one.store)
    place = waiting(spec, one.store)
    files = Files(place, one.files)
    written = cast(DaySink, there.sink).load_day(TABLES[one.table], one.day, files)
    replace_letters(spec, one, files, written.refused)
    for name in one.files:
        place.delete(name)


def deliver_hour(spec: BackfillSpec, object_name: str, minutes: pa.Table) -> None:
    """The vehicle minutes of an hour, whose object in the lake still is what it was before."""
    delivery = Delivery(spec)
    delivery.put(MINUTES, minutes)
    delivery.gone(rows_before(spec, "", [object_name]))
    base = object_name.rpartition("/")[2]
    hour = int(base.partition(".")[0].rpartition("+")[2])
    letters = delivery.letters()
    with TableWriter(spec.tables, refused_name(base), spec.zone) as writer:
        writer.write_hour("dead_letters", letters, hour)


def refused_name(object_name: str) -> str:
    """Name of the dead letters of rows that stores refused of a lake object."""
    return object_name.replace(".parquet", "+refused.parquet")
