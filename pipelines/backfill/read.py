"""The first step of a backfill: an object, or a block of Kafka, is read, decoded and checked; its
samples wait in the spool, its upload summaries and dead letters are stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.archive.names import ArchiveObject, BrokenObject, OffsetBlock
from connectors.archive.offset_blocks import read_block
from connectors.archive.read import read_object
from connectors.lake.write import TableWriter
from pipelines.backfill.spec import BackfillSpec, Scanned
from pipelines.backfill.spool import Spool
from schemas import MESSAGE_TYPES
from transforms.decode.avro_container import ContainerBlock, decode_block
from transforms.decode.decoder import decode
from transforms.facts.telemetry import prepare
from transforms.model.uploads import Uploads, concat_uploads
from transforms.terminal_rules.upload_summary import summarize


def scan(spec: BackfillSpec, source: ArchiveObject | OffsetBlock) -> list[Scanned]:
    """Read, decode and check an object, or a block of Kafka, which holds an object an arrival
    hour; the samples wait in the spool for their verdicts."""
    scans: dict[str, Scan] = {}
    with ExitStack() as stack:
        if isinstance(source, OffsetBlock):
            for one, batch in read_block(spec.brokers, source, spec.zone):
                if one.name not in scans:
                    scans[one.name] = stack.enter_context(Scan(spec, one))
                scans[one.name].take(batch)
        else:
            whole = scans[source.name] = stack.enter_context(Scan(spec, source))
            try:
                for part in read_object(
                    spec.topics, source, spec.rules.bounds.max_dead_letter_bytes
                ):
                    whole.take(part)
            except BrokenObject as error:
                whole.broken = str(error)
    return [one.scanned() for one in scans.values()]


class Scan:
    """Reading one object: what it holds goes to spool and dead letters, batch by batch. They
    stand when its `with` block has ended."""

    def __init__(self, spec: BackfillSpec, one: ArchiveObject) -> None:
        self.broken: str | None = None
        self._spec, self._one = spec, one
        self._types = types_of(spec, one)
        self._spool = Spool(spec, one)
        self._letters = TableWriter(spec.tables, one.lake_name, spec.zone)
        self._summaries: list[pa.RecordBatch] = []
        self._dead = self._filtered = self._dropped = 0
        self._offsets: tuple[int, ...] = ()

    def take(self, batch: pa.RecordBatch | ContainerBlock) -> None:
        """The next messages of the object."""
        spec = self._spec
        if isinstance(batch, ContainerBlock):
            outcome = decode_block(batch, spec.decoder)
        else:
            self._offsets = widened(self._offsets, batch.column("offset"))
            outcome = decode(batch, spec.decoder)
        self._dead += outcome.dead.num_rows
        self._letters.write_hour("dead_letters", outcome.dead, int(self._one.hour))
        for uploads in by_type(outcome.good):
            if uploads.message_type not in self._types:
                self._filtered += len(uploads)
                continue
            prepared = prepare(uploads, spec.rules)
            self._dropped += int(prepared.dropped.sum())
            self._summaries.append(summarize(prepared.uploads))
            self._spool.put(prepared)

    def __enter__(self) -> Scan:
        self._letters.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._letters.__exit__(*raised)

    def scanned(self) -> Scanned:
        """What came of it, once its upload summaries are stored."""
        uploads = self._spec.state.write_summaries(self._one.name, self._summaries)
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


def types_of(spec: BackfillSpec, one: ArchiveObject) -> tuple[str, ...]:
    """Message types wanted of an object, by this run or by an earlier one: leaving a type out
    leaves what the lake has of it."""
    before = None if spec.types == MESSAGE_TYPES else spec.state.record(one.name)
    earlier = before.types if before else []
    return tuple(name for name in MESSAGE_TYPES if name in spec.types or name in earlier)


def by_type(parts: Iterable[Uploads]) -> list[Uploads]:
    """Decoded parts joined to one `Uploads` a message type."""
    groups: dict[str, list[Uploads]] = defaultdict(list)
    for part in parts:
        groups[part.message_type].append(part)
    return [concat_uploads(groups[name]) for name in sorted(groups)]
