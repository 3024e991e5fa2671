"""The Python stages of the live lake: which blocks there are and the verdicts on their uploads;
writing a block; and the same for the hours of vehicle minutes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from connectors.archive.names import BLOCK
from connectors.archive.offset_blocks import SCHEME
from connectors.errors import DependencyFailed
from connectors.kafka import topics
from connectors.kafka.client import bootstrap
from connectors.lake.settings import LakeSettings
from connectors.retries import TransientError, with_retries
from connectors.sinks.catalogue import settings_as
from connectors.storage.settings import named_folder
from pipelines.backfill.spec import BackfillSpec
from pipelines.live.flink.arrow_blocks import read_block, stage_output
from pipelines.live.kafka_records import OUT_RECORD, raw_batch
from pipelines.live.lake_sink.units import (
    UNIT_ROWS,
    block_of,
    due,
    joined,
    objects_of,
    progress,
    unit_rows,
)
from pipelines.live.lake_sink.write_block import Core, Wrote, write_block
from pipelines.live.lake_sink.write_hour import grows, minutes_of, pack, texts, unpack, write_hour
from pipelines.live.sink_stage import StoreStage
from pipelines.live.spec import LiveJobSpec
from pipelines.live.stage import Stage
from pipelines.live.vehicle_records import dead_records
from transforms.encode.read_vehicle_minutes import decode_minutes
from transforms.live.block_verdicts import Overrides, judge_dossiers, upload_summaries
from transforms.live.first_verdict import REMEMBERED
from transforms.live.revised_minutes import DOSSIER
from transforms.model.arrow_numpy import filled_int64
from transforms.model.dead_letters import Refusal, dead_letters
from transforms.model.fleet_hours import local_hours

Done = TypeVar("Done")


def lake_of(live: LiveJobSpec) -> LakeSettings:
    """Where a job's lake is. Raises BadSettings where that is not set."""
    return settings_as(LakeSettings, live.store, live.name)


def job_of(live: LiveJobSpec) -> BackfillSpec:
    """The same work as the spec of a backfill of the topics, but for bindings and schemas."""
    store = lake_of(live)
    return BackfillSpec(
        archive=SCHEME + bootstrap(live.kafka),
        bindings=live.bindings or "",
        lake=named_folder("lake", store.folder),
        spool="",
        rules=live.rules,
        zone=live.zone,
        settings=live.s3,
        kafka=live.kafka,
        registry=live.registry,
    )


class BlockLookStage(Stage):
    """Records to upload summaries, and how far blocks reach. Nothing is too late for the lake."""

    OUTPUTS = (REMEMBERED, UNIT_ROWS)
    COUNTS = ("uploads_in",)

    def __call__(self, block: bytes) -> bytes:
        raw, _ = raw_batch(block)
        decoder, _ = self.worker.now()
        self.tally["uploads_in"] += raw.num_rows
        reach = progress(raw, BLOCK, lake_of(self.live).flush_size)
        return stage_output([(0, upload_summaries(raw, decoder, self.live.rules)), (1, reach)])


class JudgeStage(Stage):
    """Whole dossiers to the verdicts that are not the uploads' lone ones."""

    OUTPUTS = (UNIT_ROWS,)
    COUNTS = ("uploads_judged", "verdicts_told")

    def __call__(self, block: bytes) -> bytes:
        live = self.live
        _, terminals = self.worker.now()
        dossiers = read_block(block, DOSSIER)
        objects = objects_of(dossiers, BLOCK, live.zone)
        overrides = judge_dossiers(dossiers, objects, terminals.bindings, live.rules)
        self.tally["uploads_judged"] += dossiers.num_rows
        self.tally["verdicts_told"] += overrides.num_rows
        offsets = filled_int64(overrides.column("offset"), 0)
        units = joined(
            overrides.column("topic"), overrides.column("partition"), offsets // BLOCK * BLOCK
        )
        none = np.zeros(overrides.num_rows, np.int64)
        item = overrides.column("offset").cast(pa.string())
        rows = unit_rows(units, none, none, False, item, overrides.column("verdict"))
        return stage_output([(0, rows)])


@dataclass
class LakeStage(StoreStage):
    """A stage that writes to the lake."""

    def with_retries(self, write: Callable[[], Done]) -> Done:
        """Do it, again and again while the lake, or Kafka, does not answer. What is written is
        written whole, so doing it again is right. Raises DependencyFailed when patience ends."""

        def attempt() -> Done:
            try:
                return write()
            except DependencyFailed as error:
                raise TransientError(str(error)) from error

        def on_retry() -> None:
            self.tally["retries"] += 1

        with self.writing():
            return with_retries(lake_of(self.live), attempt, on_retry)


class WriteBlockStage(LakeStage):
    """Blocks that are due into the lake; they stand when a call returns."""

    OUTPUTS = (OUT_RECORD,)
    COUNTS = (
        *("blocks_written", "uploads_written", "rows_written", "objects_written"),
        *("bytes_written", "retries"),
    )

    def __call__(self, block: bytes) -> bytes:
        unit, end, items = due(block)
        job, one = job_of(self.live), block_of(unit, end)
        offsets = np.asarray(items.column("item").cast(pa.int64()))
        overrides = Overrides.unpack(offsets, items.column("value"))

        def write() -> Wrote:
            decoder, terminals = self.worker.now()
            return write_block(
                job, one, overrides, Core(decoder, terminals.bindings, self.live.rules)
            )

        wrote = self.with_retries(write)
        self.tally["blocks_written"] += 1
        for name, count in vars(wrote).items():
            self.tally[f"{name}_written"] += count
        return b""


class MinuteRecordsStage(LakeStage):
    """A stage over records of `vehicle-minutes`."""

    def open(self) -> None:
        """Bindings are not needed here."""

    def letters(self, dead: pa.RecordBatch) -> pa.RecordBatch:
        """Dead letters as records of their topic."""
        schema_id = self.worker.schema_id(topics.DEAD_LETTERS)
        return dead_records(pa.Table.from_batches([dead]), schema_id)[1]


class HourStage(MinuteRecordsStage):
    """Records of `vehicle-minutes` to changes of hours, and those of no minute as dead
    letters."""

    OUTPUTS = (UNIT_ROWS, OUT_RECORD)
    COUNTS = ("minutes_in",)

    def __call__(self, block: bytes) -> bytes:
        raw, _ = raw_batch(block)
        self.tally["minutes_in"] += raw.num_rows
        keys = texts(raw.column("key"))
        minutes = minutes_of(keys)
        refusals = [
            Refusal(row, "BAD_KEY", "the key names no vehicle and minute")
            for row in np.flatnonzero(np.asarray(minutes.is_null())).tolist()
        ]
        dead = dead_letters(raw, refusals, "SINK", self.live.rules.bounds.max_dead_letter_bytes)
        named = minutes.is_valid()
        raw, keys, minute_ms = (
            raw.filter(named),
            keys.filter(named),
            np.asarray(minutes.drop_null()),
        )
        hours = pa.array(local_hours(minute_ms, self.live.zone)).cast(pa.string())
        ends = np.ones(raw.num_rows, np.int64)
        changes = unit_rows(hours, ends, 0 * ends, grows(raw, minute_ms), keys, pack(raw))
        return stage_output([(0, changes), (1, self.letters(dead))])


class WriteHourStage(MinuteRecordsStage):
    """Hours that are due into the lake; out go minutes that cannot be read, as dead letters."""

    OUTPUTS = (OUT_RECORD,)
    COUNTS = ("hours_written", "minutes_written", "minutes_dead", "retries")

    def __call__(self, block: bytes) -> bytes:
        hour, _, items = due(block)
        raw = unpack(items.column("item"), items.column("value"), topics.MINUTES)
        found = decode_minutes(raw, self.worker.writers, self.live.rules.bounds)
        count = self.with_retries(lambda: write_hour(job_of(self.live), int(hour), found.good))
        self.tally["hours_written"] += 1
        self.tally["minutes_written"] += count
        self.tally["minutes_dead"] += found.dead.num_rows
        return stage_output([(0, self.letters(found.dead))])
