"""What a lake remembers beside its tables, so that runs over parts equal one run over all.

`_state/register`: one row an upload ever read; `_state/verdicts`: what was decided on them;
`_state/partials`: what each upload adds to a minute; `_state/objects`: which archive object
became which lake files; `_state/begun`: the same of objects a run has begun to change, until that
run is over, so that the next run can finish what a killed one left; `_state/days`: rows on their
way to stores that take whole days.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa

from connectors.lake.names import hour_folder
from connectors.lake.write import TableWriter
from connectors.storage.folder import Folder
from transforms.facts.vehicle_minutes import PARTIALS
from transforms.model.arrow_numpy import single
from transforms.terminal_rules.upload_summary import SCHEMA as REGISTER
from transforms.terminal_rules.upload_summary import bucket_of
from transforms.terminal_rules.verdicts import SCHEMA as VERDICTS
from transforms.terminal_rules.verdicts import SUMMARIES

BUCKETS = 4096
"""Part of the lake's format: upload summaries are stored by bucket of terminals."""

STORED = pa.schema([pa.field("bucket", pa.uint16(), nullable=False), *REGISTER])
_COMPACT = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True)
class ObjectRecord:
    """What is known of an archive object that was read into this lake: the archive it was read
    from (`kafka://` and the brokers, where it came from there), the message types wanted of it,
    its lake files, the hours it adds minutes to, and [first, end) of its offsets where they are
    known."""

    name: str
    archive: str
    types: list[str]
    files: list[str]
    hours: list[int]
    offsets: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class State:
    """The `_state` folder of a lake."""

    folder: Folder

    def write_summaries(self, name: str, batches: Iterable[pa.RecordBatch]) -> int:
        """Store the upload summaries of one archive object; returns how many."""
        table = pa.Table.from_batches(list(batches), REGISTER)
        bucket = bucket_of(single(table["device_no"]), BUCKETS).astype(np.uint16)
        table = table.add_column(0, STORED.field("bucket"), pa.array(bucket))
        table = table.take(pa.array(np.argsort(bucket, kind="stable"))).combine_chunks()
        _write(self.folder, f"register/{name}.arrow", table.cast(STORED).to_batches(), STORED)
        return int(table.num_rows)

    def read_summaries(self, names: Iterable[str], first: int, last: int) -> pa.Table:
        """Upload summaries (`REGISTERED`) of buckets `first` to `last` - 1 of archive objects."""
        tables = [SUMMARIES.empty_table()]
        for name in names:
            rows = _read(self.folder, f"register/{name}.arrow")
            if rows is None or not rows.num_rows:
                continue
            start, end = np.searchsorted(np.asarray(rows.column(0)), [first, last])
            if start < end:
                copied = rows.take(pa.array(np.arange(start, end)))  # lets go of the mapped file
                objects = pa.repeat(name, copied.num_rows)
                columns = [objects, *copied.columns[1:]]
                tables.append(pa.Table.from_arrays(columns, schema=SUMMARIES))
        return pa.concat_tables(tables)

    def verdicts(self, name: str) -> pa.RecordBatch:
        """What was decided on an object's uploads, ascending by line."""
        stored = _read(self.folder, f"verdicts/{name}.arrow")
        return pa.RecordBatch.from_pylist([], schema=VERDICTS) if stored is None else stored

    def write_verdicts(self, name: str, verdicts: pa.RecordBatch) -> None:
        """Store what was decided; nothing is stored where there is no exception."""
        path = f"verdicts/{name}.arrow"
        if verdicts.num_rows:
            _write(self.folder, path, [verdicts], VERDICTS)
        else:
            self.folder.delete(path)

    def judged(self) -> set[str]:
        """Names of objects with stored verdicts."""
        return {name for name, _ in self._stored("verdicts", ".arrow")}

    def begun(self) -> set[str]:
        """Names of objects that a run which did not end had begun to change."""
        return {name for name, _ in self._stored("begun", ".json")}

    def is_begun(self, name: str) -> bool:
        """Whether a run that did not end had begun to change the object."""
        return self.folder.child(f"begun/{name}.json").exists()

    def summary_sizes(self, own: Iterable[str]) -> dict[str, int]:
        """Bytes of upload summaries of `own` archive objects and of all with facts in this lake, by
        name and sorted."""
        known = {*self.known(), *own}
        return {name: size for name, size in self._stored("register", ".arrow") if name in known}

    def _stored(self, kind: str, suffix: str) -> Iterator[tuple[str, int]]:
        for name, size in self.folder.child(kind).names():
            if name.endswith(suffix):
                yield name.removesuffix(suffix), size

    def record(self, name: str) -> ObjectRecord | None:
        """What is known of an object, begun or settled; None when it never was."""
        for kind in ("begun", "objects"):
            data = self.folder.read(f"{kind}/{name}.json")
            if data is not None:
                return ObjectRecord(**json.loads(data.to_pybytes()))
        return None

    def known(self) -> list[str]:
        """Names of all objects that were settled, sorted."""
        return [name for name, _ in self._stored("objects", ".json")]

    def reached(self, name: str) -> int | None:
        """The offset behind the last one settled of an object; None where it is not known."""
        data = self.folder.read(f"objects/{name}.json")
        offsets = json.loads(data.to_pybytes()).get("offsets") if data is not None else None
        return offsets[1] if offsets else None

    def begin(self, record: ObjectRecord) -> None:
        """Note what an object may have left in the lake from now on, whatever happens."""
        self._note("begun", record)

    def write_record(self, record: ObjectRecord) -> None:
        """Remember an object."""
        self._note("objects", record)

    def _note(self, kind: str, record: ObjectRecord) -> None:
        text = json.dumps(asdict(record), indent=1, sort_keys=True)
        self.folder.write(f"{kind}/{record.name}.json", text.encode())

    def end(self, name: str) -> None:
        """An object is as its record says."""
        self.folder.delete(f"begun/{name}.json")

    def finish(self) -> None:
        """All that was begun is done, down to the minutes."""
        self.folder.child("begun").clear()

    def partials_writer(self, stem: str, zone: str) -> TableWriter:
        """Writes the minute partials of one archive object (table `partials`)."""
        return TableWriter(self.folder, f"{stem}.arrow", zone, _compact_writer)

    def partials(self, hour: int) -> Iterator[pa.Table]:
        """Minute partials of a local hour (yyyyMMddHH), a table an object, by name."""
        folder = self.folder.child(f"partials/{hour_folder(hour)}")
        for name, _ in folder.names():
            data = folder.read(name) if name.endswith(".arrow") else None
            if data is not None:
                yield pa.ipc.open_stream(data).read_all().cast(PARTIALS)


class Reached:
    """How far a lake has read blocks of `size` offsets (`offset_blocks.Reached`); looked up
    only where it matters."""

    def __init__(self, state: State, size: int) -> None:
        self._state, self._size = state, size
        self._names: dict[tuple[str, int], list[str]] | None = None

    def __call__(self, topic: str, partition: int, start: int) -> int | None:
        """The offset behind what the lake has of the block that begins at `start`."""
        if self._names is None:
            self._names = defaultdict(list)
            for name in self._state.known():
                place, _, offset = name.rpartition("/")[2].partition(".")[0].rpartition("+")
                block = int(offset) // self._size * self._size if offset.isdigit() else -1
                self._names[place, block].append(name)
        names = self._names.get((f"{topic}+{partition}", start), [])
        ends = [self._state.reached(name) for name in names]
        return max((end for end in ends if end is not None), default=None)


def _compact_writer(stream: pa.NativeFile, schema: pa.Schema) -> pa.ipc.RecordBatchStreamWriter:
    return pa.ipc.new_stream(stream, schema, options=_COMPACT)


def _write(folder: Folder, name: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
    with folder.whole(name) as stream, pa.ipc.new_file(stream, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _read(folder: Folder, name: str) -> pa.RecordBatch | None:
    data = folder.read(name)
    if data is None:
        return None
    reader = pa.ipc.open_file(data)
    if not reader.num_record_batches:
        return pa.RecordBatch.from_pylist([], schema=reader.schema)
    return reader.get_batch(0)
