"""The archive job: exact records of the device topics, a block at a time, into the archive."""

from __future__ import annotations

from dataclasses import dataclass, replace

from connectors.archive.settings import ArchiveSettings
from connectors.archive.write import ArchiveWriter, archive_writer
from connectors.sinks.catalogue import settings_as
from pipelines.live.flink.graph import Batching, Graph
from pipelines.live.kafka_records import OUT_RECORD, raw_batch
from pipelines.live.sink_stage import StoreStage
from pipelines.live.spec import LiveJobSpec

UID_ARCHIVE = "archive"


def build(graph: Graph, live: LiveJobSpec, start_at: str, transactions: str) -> None:
    """The whole job. Records are written when a batch is full, when its time is over, and before
    every barrier, so that a checkpoint covers what is durable."""
    settings = settings_of(live)
    batching = Batching(
        settings.flush_size, settings.flush_bytes, settings.rotate_schedule_interval_ms
    )
    graph = replace(graph, batching=batching)
    records = graph.device_records(live.device_topics, live.source_properties(), start_at)
    graph.python(records, UID_ARCHIVE, ArchiveStage(live))


def settings_of(live: LiveJobSpec) -> ArchiveSettings:
    """How the job's archive is written. Raises BadSettings where it has none."""
    return settings_as(ArchiveSettings, live.store, live.name)


@dataclass
class ArchiveStage(StoreStage):
    """Blocks of records into the archive; nothing comes out."""

    OUTPUTS = (OUT_RECORD,)
    COUNTS = (
        "rows_written", "bytes_written", "retries", "rows_completed", "offsets_lost",
        "old_layout_left_out",
    )  # fmt: skip
    writer: ArchiveWriter | None = None

    def open(self) -> None:
        """Bindings are not needed here. Raises BadSettings."""
        live = self.live
        self.writer = archive_writer(settings_of(live), live.zone, live.kafka, live.s3)

    def __call__(self, block: bytes) -> bytes:
        assert self.writer is not None
        records, _ = raw_batch(block)
        with self.writing():
            done = self.writer.write(records)
        self.tally["rows_written"] += done.rows
        self.tally["bytes_written"] += done.size
        self.tally["retries"] += done.retries
        self.tally["rows_completed"] += done.completed
        self.tally["offsets_lost"] += done.lost
        self.tally["old_layout_left_out"] += done.left_out
        return b""
