"""Writing a block of a device topic into the lake: the unit of work of the live lake.

What a block becomes is a function of its records and the verdicts on them, so it is always written
whole again. The backfill's own stages do it, under the names and with the memory of the backfill.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from connectors.archive.names import ArchiveObject, OffsetBlock
from connectors.archive.offset_blocks import read_block, remainder
from connectors.kafka.bounded_read import OffsetsGone
from connectors.kafka.client import begin_offsets
from connectors.lake.compact import take_out
from connectors.lake.state import ObjectRecord, Reached
from connectors.lake.write import TableWriter
from pipelines.backfill.object_records import STATE, begin, by_line, finish, places_of
from pipelines.backfill.read import by_type, widened
from pipelines.backfill.spec import BackfillSpec
from transforms.bindings.bindings import Bindings
from transforms.decode.decoder import Decoder, decode
from transforms.facts.telemetry import prepare, settle
from transforms.live.block_verdicts import Overrides, verdicts_on
from transforms.model.thresholds import Rules
from transforms.terminal_rules.upload_summary import summarize

_LOG = logging.getLogger(__name__)

Records = Iterator[tuple[ArchiveObject, pa.RecordBatch]]
"""Raw batches of a block in order, each with its object (`offset_blocks.cut`)."""


@dataclass(frozen=True)
class Core:
    """What facts are made with."""

    decoder: Decoder
    bindings: Bindings
    rules: Rules


@dataclass
class Wrote:
    """What writing a block came to: uploads read, rows of telemetry, objects with facts and their
    bytes."""

    uploads: int = 0
    rows: int = 0
    objects: int = 0
    bytes: int = 0


def write_block(job: BackfillSpec, block: OffsetBlock, overrides: Overrides, core: Core) -> Wrote:
    """Read a block from Kafka and write its facts. Where Kafka no longer holds its beginning, what
    the lake has of it stays. Raises DependencyFailed."""
    try:
        return write_records(job, read_block(job.brokers, block, job.zone), overrides, core)
    except OffsetsGone:
        held = begin_offsets(job.brokers, [block.topic])[block.topic, block.partition]
        if held <= block.start:
            raise
        reached = Reached(job.state, job.block)(block.topic, block.partition, block.start)
        left, why = remainder(block, held, reached)
        _LOG.warning("%s: Kafka holds it from %d on; %s", block.name, held, why or "facts stay")
        if left is None:
            return Wrote()
        return write_records(job, read_block(job.brokers, left, job.zone), overrides, core)


def write_records(job: BackfillSpec, records: Records, overrides: Overrides, core: Core) -> Wrote:
    """Write the facts of a block's records."""
    objects: dict[str, _Object] = {}
    with ExitStack() as stack:
        for one, raw in records:
            if one.name not in objects:
                objects[one.name] = stack.enter_context(_Object(job, one))
            objects[one.name].take(raw, overrides, core)
        for done in objects.values():
            done.begin()
    for done in objects.values():
        done.finish()
    return Wrote(
        sum(done.uploads for done in objects.values()),
        sum(done.rows for done in objects.values()),
        sum(len(done.facts.files) for done in objects.values()),
        sum(done.facts.size for done in objects.values()),
    )


def _day_before(hour: str) -> str:
    """`yyyy-MM-dd` of the day before an arrival hour (yyyyMMddHH): what happened earlier may have
    been merged."""
    return (datetime.strptime(hour, "%Y%m%d%H") - timedelta(days=1)).strftime("%Y-%m-%d")


class _Object:
    """One archive object's worth of a block on its way into the lake. Its facts stand when its
    `with` block has ended."""

    def __init__(self, job: BackfillSpec, one: ArchiveObject) -> None:
        self.uploads = self.rows = 0
        self.facts = TableWriter(job.tables, one.lake_name, job.zone)
        self._partials = job.state.partials_writer(one.stem, job.zone)
        self._job, self._one = job, one
        self._summaries: list[pa.RecordBatch] = []
        self._verdicts: list[pa.RecordBatch] = []
        self._offsets: tuple[int, ...] = ()
        self._before = job.state.record(one.name)

    def take(self, raw: pa.RecordBatch, overrides: Overrides, core: Core) -> None:
        """The next messages of the object."""
        self.uploads += raw.num_rows
        self._offsets = widened(self._offsets, raw.column("offset"))
        outcome = decode(raw, core.decoder)
        self.facts.write_hour("dead_letters", outcome.dead, int(self._one.hour))
        for uploads in by_type(outcome.good):
            prepared = prepare(uploads, core.rules)
            register = summarize(prepared.uploads)
            offsets = np.asarray(prepared.uploads.head.column("offset"))
            verdicts = verdicts_on(register, offsets, overrides, core.rules, self._one.name)
            settled = settle(prepared, verdicts, core.bindings, core.rules)
            table = f"telemetry_{settled.message_type}"
            self.facts.write(table, settled.telemetry, settled.event_ms)
            minute_ms = np.asarray(settled.partials.column("minute").cast(pa.int64()))
            self._partials.write("partials", settled.partials, minute_ms)
            self._summaries.append(register)
            self._verdicts.append(verdicts)
            self.rows += settled.telemetry.num_rows

    def begin(self) -> None:
        """All messages are taken: note what the object may have from now on."""
        job, one, before = self._job, self._one, self._before
        files = [*self.facts.files, *(STATE + name for name in self._partials.files)]
        types, hours = list(job.types), sorted(self._partials.hours)
        self._record = ObjectRecord(
            one.name, job.archive, types, sorted(files), hours, list(self._offsets)
        )
        if before is None or not set(files) <= set(before.files):
            begin(job, self._record, before)

    def finish(self) -> None:
        """The facts stand: remember them."""
        job = self._job
        job.state.write_summaries(self._one.name, self._summaries)
        finish(job, self._record, self._before, by_line(self._verdicts))
        for place in sorted(places_of(self._record, self._before)):
            if _day_before(self._one.hour) > place.rpartition("date=")[2]:
                take_out(job.tables, place)
        job.state.end(self._one.name)

    def __enter__(self) -> _Object:
        self.facts.__enter__()
        self._partials.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        try:
            self._partials.__exit__(*raised)
        finally:
            self.facts.__exit__(*raised)
