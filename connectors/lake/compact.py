"""Merging small objects of an hour and table, so that readers open few large ones.

A merged object is written whole, in place of its own version only, and before what it was made of
is deleted. Whoever is killed in between leaves sources that merged objects hold too: readers know
which of the two counts, and the next run goes on from there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.lake.merged_objects import SOURCE, Hour, held, let_go, schema_of
from connectors.lake.names import merged_name
from connectors.lake.write import aligned, parquet_writer
from connectors.storage.folder import Folder, unless_changed
from connectors.storage.s3 import VersionConflict

ROWS = 250_000
"""Rows of a row group."""
FEW = 8
SHARE = 4
"""A merged object is written again for so many new objects, or for such a share of its size."""


@dataclass
class Compacted:
    """What was done: hours of tables that changed, objects merged into others, their bytes and
    those of merged objects written; `busy` are hours somebody else was changing."""

    hours: int = 0
    objects: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    busy: list[str] = field(default_factory=list)


def compact(lake: Folder, before: date, settled: datetime, least_bytes: int) -> Compacted:
    """Merge objects smaller than `least_bytes` of hours before a date of the lake. Objects of what
    arrived at `settled` (in the lake's zone) or later may still be written again, and are left.

    Raises DependencyFailed.
    """
    done = Compacted()
    for table in SOURCE:
        for place, listed in sorted(_hours(lake, table, before).items()):
            try:
                _Merging(lake, table, place, settled.strftime("%Y%m%d%H"), least_bytes, done).run(
                    Hour.of(listed)
                )
            except VersionConflict:
                done.busy.append(place)
    return done


def take_out(lake: Folder, place: str) -> None:
    """Take out of the merged objects of `table/date=…/hour=…` the rows of sources that have an
    object of their own, so that a reader of all objects finds them once. Raises DependencyFailed,
    also where others write the same objects again and again."""
    table = place.partition("/")[0]
    if table not in SOURCE:
        return

    def take() -> None:
        hour = Hour.of(lake.child(place).names())
        merging = _Merging(lake, table, place, "", 0, Compacted())
        for name in hour.merged if hour.sources else ():
            merging.write(hour, name, [])

    unless_changed(f"{lake.uri}/{place}", take)


def _hours(lake: Folder, table: str, before: date) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, size in lake.child(table).names():
        place, _, base = name.rpartition("/")
        if name.startswith("date=") and name[5:15] < before.isoformat():
            found[f"{table}/{place}"].append((base, size))
    return found


@dataclass(frozen=True)
class _Input:
    """An object that was read, and its version."""

    name: str
    version: str
    parquet: pq.ParquetFile


@dataclass(frozen=True)
class _Merging:
    """One hour of one table. `settled` is yyyyMMddHH."""

    lake: Folder
    table: str
    place: str
    settled: str
    least_bytes: int
    done: Compacted

    def run(self, hour: Hour) -> None:
        """Merge what is worth it, and take out of merged objects what others replace."""
        changed = [self.write(hour, name, more) for name, more in self._plan(hour)]
        self.done.hours += any(changed)

    def _plan(self, hour: Hour) -> Iterator[tuple[str, list[str]]]:
        """Merged objects as they shall be: name, and sources that are to be part of it."""
        names = list(hour.merged)
        small = [
            name
            for name, size in hour.sources.items()
            if size < self.least_bytes and arrived(name) < self.settled
        ]
        size = hour.merged[names[-1]] if names else self.least_bytes
        grows = size < self.least_bytes
        yield from ((name, []) for name in (names[:-1] if grows else names))
        last = names[-1] if grows else _next(names)
        for part in self._parts(hour, small, size if grows else 0):
            total = sum(hour.sources[name] for name in part)
            few = len(part) < FEW and total * SHARE < size if grows else len(part) < 2
            if grows or not few:
                yield last, [] if few else part
            grows, last = False, _next([last])

    def _parts(self, hour: Hour, names: list[str], size: int) -> Iterator[list[str]]:
        """Sources cut where a merged object is large enough; `size` is that of the first."""
        part: list[str] = []
        for name in names:
            part.append(name)
            size += hour.sources[name]
            if size >= self.least_bytes:
                yield part
                part, size = [], 0
        yield part

    def write(self, hour: Hour, name: str, more: list[str]) -> bool:
        """Write a merged object with `more` sources and without the rows of those that have an
        object of their own; then let its sources go. Raises VersionConflict where another wrote
        it."""
        before = self._read([name])
        replaced = [
            one for found in before for one in hour.superseded(held(self.table, found.parquet))
        ]
        if not more and not replaced:
            return False
        inputs = self._read(more)
        data = _merged(self.table, [*before, *inputs], name, replaced)
        self.lake.replace(f"{self.place}/{name}", data, before[0].version if before else None)
        for one in inputs:
            self._drop(one)
        self.done.objects += len(inputs)
        self.done.bytes_read += sum(hour.sources[one.name] for one in inputs)
        self.done.bytes_written += data.size
        return True

    def _read(self, names: Iterable[str]) -> list[_Input]:
        """Objects that are there."""
        inputs = []
        repeated = [f.name for f in schema_of(self.table) if pa.types.is_dictionary(f.type)]
        for name in names:
            found = self.lake.read_version(f"{self.place}/{name}")
            if found is not None:
                file = pq.ParquetFile(pa.BufferReader(found[0]), read_dictionary=repeated)
                inputs.append(_Input(name, found[1], file))
        return inputs

    def _drop(self, one: _Input) -> None:
        """A source that was written again meanwhile stays, and counts; where one was deleted, its
        rows must not."""
        name = f"{self.place}/{one.name}"
        if self.lake.version(name) is None:
            let_go(self.lake, name)
            return
        with suppress(VersionConflict):
            self.lake.delete_version(name, one.version)


def arrived(source: str) -> str:
    """yyyyMMddHH of the arrival of what an object of a source holds."""
    return source.rpartition("+")[2][:10]


def _next(names: list[str]) -> str:
    return merged_name(int(names[-1].partition(".")[0].rpartition("-")[2]) + 1 if names else 0)


def _merged(table: str, inputs: list[_Input], merged: str, replaced: list[str]) -> pa.Buffer:
    """Parquet of all rows of inputs, without those of `replaced` in the input named `merged`."""
    schema = _schema(table, inputs)
    sink = pa.BufferOutputStream()
    with parquet_writer(sink, schema) as writer:
        waiting: list[pa.Table] = []
        count = 0
        for one in inputs:
            left_out = replaced if one.name == merged else []
            for batch in one.parquet.iter_batches(ROWS):
                rows = _without(pa.Table.from_batches([batch]), SOURCE[table], left_out)
                waiting.append(aligned(rows, schema))
                count += rows.num_rows
                if count >= ROWS:
                    writer.write_table(pa.concat_tables(waiting).unify_dictionaries())
                    waiting, count = [], 0
        if count:
            writer.write_table(pa.concat_tables(waiting).unify_dictionaries())
    return sink.getvalue()


def _schema(table: str, inputs: list[_Input]) -> pa.Schema:
    """The table's columns as they are now, and those that a newer version wrote."""
    known = schema_of(table)
    seen = [f for one in inputs for f in one.parquet.schema_arrow if f.name not in known.names]
    more = {f.name: f.with_nullable(True) for f in seen}
    return pa.schema([*known, *more.values()])


def _without(rows: pa.Table, column: str, archive_objects: list[str]) -> pa.Table:
    if not archive_objects:
        return rows
    source = rows[column].cast(pa.string())
    gone = pc.is_in(source, value_set=pa.array(archive_objects, pa.string()))
    return rows.filter(pc.invert(gone))
