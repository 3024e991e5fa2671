"""The Python stages of the live lake: which blocks there are and what is told of their uploads;
writing a block; and the same for the hours of vehicle minutes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.blocks import BLOCK, SCHEME, Block, arrival_hours, object_name
from connectors.kafka import bootstrap
from connectors.lake import local_hours
from connectors.lake_settings import LakeSettings
from connectors.settings import BadSettings
from pipelines.blocks import parcel, read_block, schema
from pipelines.enrich import DEAD_LETTERS_TOPIC, dead_records
from pipelines.job import Job
from pipelines.lake_block import Core, write_block
from pipelines.lake_minutes import grows, minutes_of, pack, texts, unpack, write_hour
from pipelines.live import Live
from pipelines.records import OUT_RECORD, raw_batch
from pipelines.stages import MINUTES_TOPIC, Stage
from transforms.arrays import filled_int64
from transforms.block_rows import Told, judge_dossiers, register_rows
from transforms.decode_minutes import decode_minutes
from transforms.dossier import DOSSIER
from transforms.first_look import REGISTERED
from transforms.outcome import Refusal, dead_letters

UNIT_ROWS = schema("unit:string,end:long,full:byte,grows:byte,item:string?,value:bytes?")
"""What is said of units that are written whole: blocks, or hours of minutes. Without an item a row
says how far its unit reaches."""
UNIT = schema("unit:string,end:long,item:string?,value:bytes?")
"""A unit that is due: a row without item, then its items."""
MARK = "|"


def lake_of(live: Live) -> LakeSettings:
    """Where a job's lake is. Raises BadSettings where nobody said it."""
    store = live.store
    if not isinstance(store, LakeSettings) or not store.folder:
        raise BadSettings("sinks.lake.folder is not set: give a folder or s3://bucket/prefix")
    return store


def job_of(live: Live) -> Job:
    """The same work as a backfill of the topics would be told it, but for bindings and schemas."""
    store = lake_of(live)
    return Job(
        archive=SCHEME + bootstrap(live.kafka),
        bindings=live.bindings or "",
        lake=str(store.folder),
        spool="",
        rules=live.rules,
        zone=live.zone,
        settings=live.s3,
        kafka=live.kafka,
        registry=live.registry,
    )


def progress(raw: pa.RecordBatch, size: int, flush_size: int) -> pa.RecordBatch:
    """`UNIT_ROWS`: how far each block of `size` offsets reaches by a raw batch of device topics; it
    shall be written soon where it is full, or passes a multiple of `flush_size`."""
    offsets = filled_int64(raw.column("offset"), 0)
    units = _joined(raw.column("topic"), raw.column("partition"), offsets // size * size)
    encoded = units.dictionary_encode()
    at = np.asarray(encoded.indices)
    ends = np.zeros(len(encoded.dictionary), np.int64)
    np.maximum.at(ends, at, offsets + 1)
    firsts = ends.copy()
    np.minimum.at(firsts, at, offsets)
    full = (ends % size == 0) | (ends // flush_size > firsts // flush_size)
    nothing = pa.nulls(len(ends), pa.string())
    return unit_rows(encoded.dictionary, ends, full, True, nothing, nothing)


def objects_of(rows: pa.RecordBatch, size: int, zone: str) -> pa.Array:
    """Names of the archive objects of rows (topic, partition, offset, timestamp)."""
    starts = filled_int64(rows.column("offset"), 0) // size * size
    hours = arrival_hours(filled_int64(rows.column("timestamp"), 0), zone)
    encoded = _joined(rows.column("topic"), rows.column("partition"), starts, hours)
    encoded = encoded.dictionary_encode()
    names = []
    for text in encoded.dictionary.to_pylist():
        unit, _, hour = text.rpartition(MARK)
        names.append(object_name(block_of(unit, 0), int(hour)))
    return pa.array(names, pa.string()).take(encoded.indices)


def block_of(unit: str, end: int) -> Block:
    """The block that a unit's name stands for, up to `end`."""
    topic, partition, start = unit.rsplit(MARK, 2)
    return Block(topic, int(partition), int(start), end, int(start))


def _joined(*columns: pa.Array | np.ndarray) -> pa.Array:
    texts = [pa.array(column).cast(pa.string()) for column in columns]
    return pc.binary_join_element_wise(*texts, MARK)


def unit_rows(
    unit: pa.Array,
    end: np.ndarray,
    full: np.ndarray,
    grows: np.ndarray | bool,
    item: pa.Array,
    value: pa.Array,
) -> pa.RecordBatch:
    """`UNIT_ROWS` of columns."""
    flags = [np.broadcast_to(flag, len(unit)).astype(np.int8) for flag in (full, grows)]
    columns = [unit, end, *flags, item, value.cast(pa.binary())]
    return pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=UNIT_ROWS)


class BlockLookStage(Stage):
    """Records to register rows, and how far blocks reach. Nothing is too late for the lake."""

    OUTPUTS = (REGISTERED, UNIT_ROWS)
    COUNTS = ("uploads_in",)

    def __call__(self, block: bytes) -> bytes:
        raw, _ = raw_batch(block)
        decoder, _ = self.world.now()
        self.tally["uploads_in"] += raw.num_rows
        reach = progress(raw, BLOCK, lake_of(self.live).flush_size)
        return parcel([(0, register_rows(raw, decoder, self.live.rules)), (1, reach)])


class JudgeStage(Stage):
    """Whole dossiers to what they tell of uploads."""

    OUTPUTS = (UNIT_ROWS,)
    COUNTS = ("uploads_judged", "verdicts_told")

    def __call__(self, block: bytes) -> bytes:
        live = self.live
        _, terminals = self.world.now()
        dossiers = read_block(block, DOSSIER)
        objects = objects_of(dossiers, BLOCK, live.zone)
        told = judge_dossiers(dossiers, objects, terminals.bindings, live.rules)
        self.tally["uploads_judged"] += dossiers.num_rows
        self.tally["verdicts_told"] += told.num_rows
        offsets = filled_int64(told.column("offset"), 0)
        units = _joined(told.column("topic"), told.column("partition"), offsets // BLOCK * BLOCK)
        none = np.zeros(told.num_rows, np.int64)
        item = told.column("offset").cast(pa.string())
        rows = unit_rows(units, none, none, False, item, told.column("verdict"))
        return parcel([(0, rows)])


class WriteBlockStage(Stage):
    """Blocks that are due into the lake; they stand when a call returns."""

    OUTPUTS = (OUT_RECORD,)
    COUNTS = ("blocks_written", "uploads_written", "rows_written", "objects_written")

    def __call__(self, block: bytes) -> bytes:
        unit, end, items = due(block)
        decoder, terminals = self.world.now()
        core = Core(decoder, terminals.bindings, self.live.rules)
        offsets = np.asarray(items.column("item").cast(pa.int64()))
        told = Told.unpack(offsets, items.column("value"))
        wrote = write_block(job_of(self.live), block_of(unit, end), told, core)
        self.tally["blocks_written"] += 1
        self.tally["uploads_written"] += wrote.uploads
        self.tally["rows_written"] += wrote.rows
        self.tally["objects_written"] += wrote.objects
        return b""


class HourStage(Stage):
    """Records of `vehicle-minutes` to what they tell of hours, and those of no minute as dead
    letters."""

    OUTPUTS = (UNIT_ROWS, OUT_RECORD)
    COUNTS = ("minutes_in",)

    def open(self) -> None:
        """Bindings are not needed here."""

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
        told = unit_rows(hours, ends, 0 * ends, grows(raw, minute_ms), keys, pack(raw))
        return parcel([(0, told), (1, self.letters(dead))])

    def letters(self, dead: pa.RecordBatch) -> pa.RecordBatch:
        """Dead letters as records of their topic."""
        schema_id = self.world.schema_id(DEAD_LETTERS_TOPIC)
        return dead_records(pa.Table.from_batches([dead]), schema_id)[1]


class WriteHourStage(HourStage):
    """Hours that are due into the lake; out go minutes that cannot be read, as dead letters."""

    OUTPUTS = (OUT_RECORD,)
    COUNTS = ("hours_written", "minutes_written", "minutes_dead")

    def __call__(self, block: bytes) -> bytes:
        hour, _, items = due(block)
        raw = unpack(items.column("item"), items.column("value"), MINUTES_TOPIC)
        found = decode_minutes(raw, self.world.writers, self.live.rules.bounds)
        count = write_hour(job_of(self.live), int(hour), found.good)
        self.tally["hours_written"] += 1
        self.tally["minutes_written"] += count
        self.tally["minutes_dead"] += found.dead.num_rows
        return parcel([(0, self.letters(found.dead))])


def due(block: bytes) -> tuple[str, int, pa.RecordBatch]:
    """A unit that is due: its name, its end, and its items (columns item and value)."""
    rows = read_block(block, UNIT)
    items = rows.filter(rows.column("item").is_valid()).select(["item", "value"])
    return rows.column("unit")[0].as_py(), rows.column("end")[0].as_py(), items
