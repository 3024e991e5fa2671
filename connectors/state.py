"""What a lake remembers beside its tables, so that runs over parts equal one run over all.

`_state/register`: one row an upload ever read; `_state/verdicts`: what was decided on them;
`_state/partials`: what each upload adds to a minute; `_state/objects`: which archive object
became which lake files.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from connectors.files import Folder
from connectors.lake import hour_folder
from transforms.judge import REGISTERED
from transforms.judge import SCHEMA as VERDICTS
from transforms.minutes import PARTIALS
from transforms.register import SCHEMA as REGISTER
from transforms.register import bucket_of

BUCKETS = 64
"""Part of the lake's format: register rows are stored by bucket of terminals."""


@dataclass(frozen=True)
class ObjectRecord:
    """What is known of an archive object that was read into this lake."""

    name: str
    archive: str
    uploads: int
    files: list[str]
    hours: list[int]


@dataclass(frozen=True)
class State:
    """The `_state` folder of a lake."""

    folder: Folder

    def write_register(self, name: str, batches: Iterable[pa.RecordBatch]) -> int:
        """Store the register rows of one archive object; returns how many."""
        table = pa.Table.from_batches(list(batches), REGISTER)
        bucket = bucket_of(_text(table["device_no"]), BUCKETS)
        order = np.argsort(bucket, kind="stable")
        table = table.take(pa.array(order)).combine_chunks()
        edges = np.searchsorted(bucket[order], np.arange(BUCKETS + 1))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, REGISTER) as writer:
            for start, end in itertools.pairwise(edges):
                part = table.slice(int(start), int(end - start)).combine_chunks()
                empty = pa.RecordBatch.from_pylist([], schema=REGISTER)
                writer.write_batch(part.to_batches()[0] if part.num_rows else empty)
        self.folder.write(f"register/{name}.arrow", sink.getvalue())
        return int(table.num_rows)

    def read_register(self, names: Iterable[str], first: int, last: int) -> pa.Table:
        """Register rows (`REGISTERED`) of buckets `first` to `last` - 1 of archive objects."""
        tables = [REGISTERED.empty_table()]
        for name in names:
            data = self.folder.read(f"register/{name}.arrow")
            if data is None:
                continue
            reader = pa.ipc.open_file(data)
            batches = [reader.get_batch(i) for i in range(first, last)]
            table = pa.Table.from_batches(batches, REGISTER)
            if table.num_rows:
                objects = pa.repeat(name, table.num_rows)
                tables.append(table.add_column(0, REGISTERED.field("object"), objects))
        return pa.concat_tables(tables)

    def verdicts(self, name: str) -> pa.RecordBatch:
        """What was decided on an object's uploads, ascending by line."""
        data = self.folder.read(f"verdicts/{name}.arrow")
        if data is None:
            return pa.RecordBatch.from_pylist([], schema=VERDICTS)
        return pa.ipc.open_file(data).get_batch(0)

    def write_verdicts(self, name: str, verdicts: pa.RecordBatch) -> None:
        """Store what was decided; nothing is stored where there is no exception."""
        path = f"verdicts/{name}.arrow"
        if not verdicts.num_rows:
            self.folder.delete(path)
            return
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, VERDICTS) as writer:
            writer.write_batch(verdicts)
        self.folder.write(path, sink.getvalue())

    def judged(self) -> set[str]:
        """Names of objects with stored verdicts."""
        return {name.removesuffix(".arrow") for name, _ in self.folder.child("verdicts").names()}

    def registered(self) -> list[str]:
        """Names of all archive objects ever read into this lake, sorted."""
        names = self.folder.child("register").names()
        return [name.removesuffix(".arrow") for name, _ in names if not _hidden(name)]

    def record(self, name: str) -> ObjectRecord | None:
        """What is known of an object; None when it was never settled."""
        data = self.folder.read(f"objects/{name}.json")
        return None if data is None else ObjectRecord(**json.loads(data.to_pybytes()))

    def write_record(self, record: ObjectRecord) -> None:
        """Remember an object."""
        text = json.dumps(asdict(record), indent=1, sort_keys=True)
        self.folder.write(f"objects/{record.name}.json", text.encode())

    def partials(self, hour: int) -> Iterator[pa.Table]:
        """Minute partials of a local hour (yyyyMMddHH), a table an object, by name."""
        folder = self.folder.child(f"partials/{hour_folder(hour)}")
        for name, _ in folder.names():
            data = None if _hidden(name) else folder.read(name)
            if data is not None:
                yield pq.read_table(pa.BufferReader(data)).cast(PARTIALS)


def _hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def _text(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
