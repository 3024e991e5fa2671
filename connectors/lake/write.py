"""The lake: facts as Parquet by event date and hour, each object named by its source."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from connectors.lake.names import hour_folder
from connectors.storage.folder import Commit, Folder, failing
from transforms.model.fleet_hours import local_hours

MOST_OPEN = 16
"""Files that one writer has open, of the thousand that a process usually may: a block of messages
has a writer for each hour in which some arrived."""
INDEXED = frozenset({"event_time", "device_no", "vehicle_id", "minute"})


class Writer(Protocol):
    """What Parquet and Arrow writers have in common."""

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append rows."""

    def close(self) -> None:
        """Finish the file."""


@dataclass
class _Open:
    writer: Writer
    stream: pa.NativeFile
    commit: Commit
    name: str


@dataclass
class TableWriter:
    """Writes rows of several tables, split by local hour, under one object name each.

    Files appear when the `with` block ends without an error; none does otherwise. `files` and
    `hours` say what was (or is to be) written, `size` how many bytes were. `opened` makes the
    writer of a file. Rows of more than `MOST_OPEN` files wait in memory until the end.
    """

    lake: Folder
    object_name: str
    zone: str
    opened: Callable[[pa.NativeFile, pa.Schema], Writer] | None = None
    hours: set[int] = field(default_factory=set)
    size: int = 0
    _open: dict[tuple[str, int], _Open] = field(default_factory=dict)
    _waiting: dict[tuple[str, int], list[pa.RecordBatch]] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """Names of the files, sorted."""
        return sorted(self._name(*key) for key in (*self._open, *self._waiting))

    def write(self, table: str, batch: pa.RecordBatch, event_ms: np.ndarray) -> None:
        """Append rows; `event_ms` (shape (rows,)) decides their hour."""
        if not batch.num_rows:
            return
        hours = local_hours(event_ms, self.zone)
        if hours[0] == hours[-1] and (hours == hours[0]).all():
            self.write_hour(table, batch, int(hours[0]))
            return
        for hour in np.unique(hours):
            part = batch.filter(pa.array(hours == hour))
            self.write_hour(table, part, int(hour))

    def write_hour(self, table: str, batch: pa.RecordBatch, hour: int) -> None:
        """Append rows that all belong to `hour` (yyyyMMddHH)."""
        if not batch.num_rows:
            return
        key = (table, hour)
        self.hours.add(hour)
        if key not in self._open and len(self._open) >= MOST_OPEN:
            self._waiting.setdefault(key, []).append(batch)
            return
        if key not in self._open:
            self._open[key] = self._begin(key, batch.schema)
        with failing(f"write {self._open[key].name}"):
            self._open[key].writer.write_batch(batch)

    def _name(self, table: str, hour: int) -> str:
        return f"{table}/{hour_folder(hour)}/{self.object_name}"

    def _begin(self, key: tuple[str, int], schema: pa.Schema) -> _Open:
        name = self._name(*key)
        stream, commit = self.lake.begin(name)
        return _Open((self.opened or parquet_writer)(stream, schema), stream, commit, name)

    def _end(self, one: _Open) -> None:
        with failing(f"write {one.name}"):
            one.writer.close()
            self.size += one.stream.tell()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        unfinished = list(self._open.values())
        try:
            while unfinished and kind is None:
                self._end(unfinished[-1])
                unfinished.pop().commit()
            for key, batches in self._waiting.items() if kind is None else ():
                unfinished.append(self._begin(key, batches[0].schema))
                with failing(f"write {unfinished[-1].name}"):
                    for batch in batches:
                        unfinished[-1].writer.write_batch(batch)
                self._end(unfinished[-1])
                unfinished.pop().commit()
        finally:
            for one in unfinished:
                with suppress(OSError, ValueError):
                    one.writer.close()
                one.commit.abandon()


def parquet_writer(stream: pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter:
    """The one way facts become Parquet: zstd, dictionaries for repeated texts only."""
    texts = [f.name for f in schema if pa.types.is_dictionary(f.type)]
    return pq.ParquetWriter(
        stream,
        schema,
        compression="zstd",
        use_dictionary=texts,
        write_statistics=[f.name for f in schema if f.name in INDEXED],
        store_schema=False,
    )


def parquet_bytes(table: pa.Table) -> pa.Buffer:
    """A table as one such file."""
    sink = pa.BufferOutputStream()
    with parquet_writer(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def aligned(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows that another version wrote, with the columns of `schema`: those they lack are null, and
    those `schema` lacks come behind. Raises ArrowInvalid where a value does not fit its column."""
    columns = {}
    for name, kind in zip(schema.names, schema.types, strict=True):
        known = name in table.column_names
        columns[name] = table[name].cast(kind) if known else pa.nulls(table.num_rows, kind)
    more = [name for name in table.column_names if name not in columns]
    fields = [*schema, *(table.schema.field(name) for name in more)]
    arrays = [*columns.values(), *(table[name] for name in more)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def rewrite(lake: Folder, name: str, table: pa.Table) -> None:
    """Write a whole lake object, or delete it when there are no rows."""
    if not table.num_rows:
        lake.delete(name)
        return
    with lake.whole(name) as stream, parquet_writer(stream, table.schema) as writer:
        writer.write_table(table)
