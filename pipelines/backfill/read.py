"""The first step of a backfill: an object, or a block of Kafka, is read, decoded and checked; its
samples wait in the spool, its register rows and dead letters are stored."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.archive.offset_blocks import Block, read_block
from connectors.archive.read import ArchiveObject, BrokenObject, read_object
from connectors.lake.write import TableWriter
from pipelines.backfill.spec import Job, Scanned
from schemas import MESSAGE_TYPES
from transforms.decode.avro_container import Block as Container
from transforms.decode.avro_container import decode_block
from transforms.decode.decoder import decode
from transforms.facts.telemetry import Prepared, prepare
from transforms.model.uploads import Uploads, concat_uploads
from transforms.terminal_rules.upload_summary import enroll


def scan(job: Job, source: ArchiveObject | Block) -> list[Scanned]:
    """Read, decode and check an object, or a block of Kafka, which holds an object an arrival
    hour; the samples wait in the spool for their verdicts."""
    scans: dict[str, Scan] = {}
    with ExitStack() as stack:
        if isinstance(source, Block):
            for one, batch in read_block(job.brokers, source, job.zone):
                if one.name not in scans:
                    scans[one.name] = stack.enter_context(Scan(job, one))
                scans[one.name].take(batch)
        else:
            whole = scans[source.name] = stack.enter_context(Scan(job, source))
            try:
                for part in read_object(job.topics, source, job.rules.bounds.max_dead_letter_bytes):
                    whole.take(part)
            except BrokenObject as error:
                whole.broken = str(error)
    return [one.scanned() for one in scans.values()]


class Scan:
    """Reading one object: what it holds goes to spool and dead letters, batch by batch. They
    stand when its `with` block has ended."""

    def __init__(self, job: Job, one: ArchiveObject) -> None:
        self.broken: str | None = None
        self._job, self._one = job, one
        self._types = types_of(job, one)
        self._spool = Spool(job, one)
        self._letters = TableWriter(job.tables, one.lake_name, job.zone)
        self._register: list[pa.RecordBatch] = []
        self._dead = self._filtered = self._dropped = 0
        self._offsets: tuple[int, ...] = ()

    def take(self, batch: pa.RecordBatch | Container) -> None:
        """The next messages of the object."""
        job = self._job
        if isinstance(batch, Container):
            outcome = decode_block(batch, job.decoder)
        else:
            self._offsets = widened(self._offsets, batch.column("offset"))
            outcome = decode(batch, job.decoder)
        self._dead += outcome.dead.num_rows
        self._letters.write_hour("dead_letters", outcome.dead, int(self._one.hour))
        for uploads in by_type(outcome.good):
            if uploads.message_type not in self._types:
                self._filtered += len(uploads)
                continue
            prepared = prepare(uploads, job.rules)
            self._dropped += int(prepared.dropped.sum())
            self._register.append(enroll(prepared.uploads))
            self._spool.put(prepared)

    def __enter__(self) -> Scan:
        self._letters.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._letters.__exit__(*raised)

    def scanned(self) -> Scanned:
        """What came of it, once its register rows are stored."""
        uploads = self._job.state.write_register(self._one.name, self._register)
        return Scanned(
            self._one,
            self._types,
            uploads,
            self._dead,
            self._filtered,
            self._dropped,
            self.broken,
            tuple(self._letters.files),
            self._offsets,
        )


def widened(offsets: tuple[int, ...], column: pa.Array) -> tuple[int, ...]:
    """[first, end) of the offsets so far and of a batch; empty where there are none."""
    if column.null_count == len(column):
        return offsets
    ends = pc.min_max(column)
    first, end = ends["min"].as_py(), ends["max"].as_py() + 1
    return (min(first, *offsets[:1]), max(end, *offsets[1:])) if offsets else (first, end)


def types_of(job: Job, one: ArchiveObject) -> tuple[str, ...]:
    """Message types wanted of an object, by this run or by an earlier one: leaving a type out
    leaves what the lake has of it."""
    before = None if job.types == MESSAGE_TYPES else job.state.record(one.name)
    earlier = before.types if before else []
    return tuple(name for name in MESSAGE_TYPES if name in job.types or name in earlier)


def by_type(parts: Iterable[Uploads]) -> list[Uploads]:
    """Decoded parts joined to one `Uploads` a message type."""
    groups: dict[str, list[Uploads]] = defaultdict(list)
    for part in parts:
        groups[part.message_type].append(part)
    return [concat_uploads(groups[name]) for name in sorted(groups)]


@dataclass
class Spool:
    """Prepared uploads of one object between scan and settle, as Arrow IPC."""

    job: Job
    one: ArchiveObject
    parts: int = 0

    @property
    def _stem(self) -> str:
        return hashlib.sha256(self.one.name.encode()).hexdigest()[:24]

    def put(self, prepared: Prepared) -> None:
        """Append a batch."""
        uploads = prepared.uploads
        head = uploads.head.append_column("dropped", pa.array(prepared.dropped))
        rows = uploads.rows.append_column("sample_idx", pa.array(prepared.sample_idx))
        rows = rows.append_column("step_m", pa.array(prepared.step_m))
        name = f"{self._stem}/{self.parts:06d}-{uploads.message_type}"
        self.parts += 1
        with self.job.scratch.whole(name) as stream:
            for batch in (head, rows):
                with pa.ipc.new_stream(stream, batch.schema) as writer:
                    writer.write_batch(batch)

    def take(self) -> Iterator[Prepared]:
        """The batches in order."""
        folder = self.job.scratch.child(self._stem)
        for name, _ in folder.names():
            stream = pa.BufferReader(folder.read(name))
            head, rows = _next_batch(stream), _next_batch(stream)
            sample_idx, step_m = np.asarray(rows.column(-2)), np.asarray(rows.column(-1))
            message_type = name.partition("-")[2]
            uploads = Uploads(message_type, _without(head, 1), _without(rows, 2))
            yield Prepared(uploads, sample_idx, step_m, np.asarray(head.column("dropped")))

    def drop(self) -> None:
        """Delete what waited."""
        self.job.scratch.child(self._stem).clear()


def _next_batch(stream: pa.NativeFile) -> pa.RecordBatch:
    """The one batch of the next Arrow stream in a file of several."""
    with pa.ipc.open_stream(stream) as reader:
        batch = reader.read_next_batch()
        reader.read_all()
    return batch


def _without(batch: pa.RecordBatch, last: int) -> pa.RecordBatch:
    return batch.select(batch.schema.names[:-last])
