"""The Python stages of sinks of rows; what they wrote when they return, a checkpoint covers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from connectors.kafka import topics
from connectors.sinks.contract import Sink
from connectors.sinks.tables import MINUTES, TELEMETRY, Table, revision
from pipelines.live.flink.arrow_blocks import read_block, stage_output
from pipelines.live.kafka_records import OUT_RECORD, raw_batch
from pipelines.live.sink_stage import StoreStage
from pipelines.live.vehicle_records import dead_records
from pipelines.open_sink import open_sink, tables_of
from pipelines.row_revisions import gone_rows, looked_at, minute_rows, revised
from transforms.encode.read_vehicle_minutes import decode_minutes
from transforms.live.first_verdict import REMEMBERED, first_look, remembered
from transforms.live.revised_minutes import DOSSIER
from transforms.live.revised_rows import NEVER_LATE, first_rows, revised_rows
from transforms.live.written_versions import WrittenVersions
from transforms.model.dead_letters import DEAD_SCHEMA, no_dead

WRITTEN = ("rows_written", "bytes_written", "retries", "rows_refused")
RESTART_MS = 60_000
"""Clocks of the machines that wrote records may be so far ahead of ours."""


def now_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass
class SinkStage(StoreStage):
    """A stage that writes rows to its job's store and hands on what the store refused."""

    sink: Sink | None = None
    clock: Callable[[], int] = now_ms

    def write(self, table: Table, rows: pa.Table) -> pa.RecordBatch:
        """Rows into the store; those it refused, as dead letters (schema `dead_letter`). Raises
        DependencyFailed when the store stays away."""
        if not rows.num_rows:
            return no_dead()
        with self.writing():
            written = self._opened().write(table, rows)
        self.tally["rows_written"] += written.rows
        self.tally["bytes_written"] += written.size
        self.tally["retries"] += written.retries
        self.tally["rows_refused"] += written.refused.num_rows
        return written.refused

    def _opened(self) -> Sink:
        """The store, made ready by the first rows: a job that starts anew while its store is away
        waits for it."""
        if self.sink is None:
            sink = open_sink(self.live.store, self.live.database)
            sink.prepare(tables_of(self.live.store))
            self.sink = sink
        return self.sink

    def refused(self, letters: list[pa.RecordBatch]) -> pa.RecordBatch:
        """Dead letters as records of their topic."""
        dead = pa.Table.from_batches(letters, DEAD_SCHEMA)
        _, records = dead_records(dead, self.worker.schema_id(topics.DEAD_LETTERS))
        return records


class FirstRowsStage(SinkStage):
    """Records to rows under each upload's own verdict; out go upload summaries and refused rows."""

    OUTPUTS = (REMEMBERED, OUT_RECORD)
    COUNTS = ("uploads_in", "uploads_dead", *WRITTEN)

    def __call__(self, block: bytes) -> bytes:
        raw, headers = raw_batch(block)
        decoder, terminals = self.worker.now()
        found = first_look(raw, decoder, terminals.bindings, self.live.rules, NEVER_LATE)
        self.tally["uploads_in"] += raw.num_rows
        self.tally["uploads_dead"] += found.dead.num_rows
        letters = []
        for look in found.looks:
            rows = first_rows(look)
            table = TELEMETRY[rows.message_type]
            letters.append(self.write(table, looked_at(table, rows.telemetry)))
        return stage_output(
            [(0, remembered(found.looks, raw, headers)), (1, self.refused(letters))]
        )


@dataclass
class RevisedRowsStage(SinkStage):
    """Whole dossiers to rows of the uploads that are thought of otherwise than was written."""

    OUTPUTS = (OUT_RECORD,)
    COUNTS = ("uploads_judged", "rows_gone", *WRITTEN)
    written: WrittenVersions = field(default_factory=lambda: WrittenVersions(0, 0))

    def open(self) -> None:
        """Connect; nothing is remembered of what was written before."""
        super().open()
        self.written = WrittenVersions(self.clock() + RESTART_MS, self.live.lateness_ms)

    def __call__(self, block: bytes) -> bytes:
        decoder, terminals = self.worker.now()
        dossiers = read_block(block, DOSSIER)
        parts = revised_rows(
            dossiers,
            self.written,
            self.worker.read_again,
            decoder,
            terminals.bindings,
            self.live.rules,
        )
        known = revision(self.clock())
        self.tally["uploads_judged"] += dossiers.num_rows
        letters = []
        for part in parts:
            table = TELEMETRY[part.message_type]
            self.tally["rows_gone"] += part.gone.num_rows
            rows = [revised(table, part.telemetry, known), gone_rows(table, part.gone, known)]
            letters.append(self.write(table, pa.concat_tables(rows)))
        return stage_output([(0, self.refused(letters))])


class MinuteRowsStage(SinkStage):
    """Records of `vehicle-minutes` to rows; out go refused ones."""

    OUTPUTS = (OUT_RECORD,)
    COUNTS = ("minutes_in", "minutes_dead", *WRITTEN)

    def open(self) -> None:
        """Bindings are not needed here."""

    def __call__(self, block: bytes) -> bytes:
        raw, _ = raw_batch(block)
        found = decode_minutes(raw, self.worker.writers, self.live.rules.bounds)
        self.tally["minutes_in"] += raw.num_rows
        self.tally["minutes_dead"] += found.dead.num_rows
        rows = minute_rows(found.good)
        return stage_output([(0, self.refused([found.dead, self.write(MINUTES, rows)]))])
