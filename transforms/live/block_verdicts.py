"""Verdicts on the uploads of a stream by place, for stores that write a block of offsets whole.

An upload gets the verdict it would get as its terminal's only one, unless what its terminal's other
uploads make of it is told. Together they are the verdicts a backfill over the same uploads reaches.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas import REPORT_TYPES
from transforms.bindings.bindings import Bindings
from transforms.decode.decoder import Decoder
from transforms.facts.telemetry import prepare
from transforms.live.first_verdict import QUIET, REGISTERED, SUSPECT, TOLD, decode_by_topic
from transforms.model.arrow_numpy import codes, filled_int64, ranks
from transforms.model.thresholds import Rules
from transforms.model.uploads import Uploads
from transforms.terminal_rules.clock import DEVICE, FALLBACK, Times, judge_clocks
from transforms.terminal_rules.upload_summary import summarize
from transforms.terminal_rules.verdicts import SCHEMA as VERDICTS
from transforms.terminal_rules.verdicts import SUMMARIES as JUDGED
from transforms.terminal_rules.verdicts import judge

PACKED = np.dtype(
    [
        ("counts", "u1"),
        ("shows", "u1"),
        ("source", "i1"),
        ("ignition_counts", "i1"),
        ("offset_ms", "<i8"),
        ("received_ms", "<i8"),
        ("flags", "<i8"),
    ]
)
"""A verdict (`verdicts.SCHEMA`) without its place; `ignition_counts` is -1 for null."""

FIELDS = PACKED.names or ()

TOLD_ROWS = pa.schema(
    [
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("verdict", pa.binary()),
    ]
)
"""What is told of uploads: bytes of `PACKED`, null where they get the verdict they get alone."""

_TOPIC, _PARTITION = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


@dataclass(frozen=True)
class Told:
    """Verdicts (`PACKED`) that are told on uploads of a partition, by offset, ascending."""

    offsets: np.ndarray
    verdicts: np.ndarray

    @classmethod
    def unpack(cls, offsets: np.ndarray, packed: pa.BinaryArray) -> Told:
        """Of bytes, in any order."""
        order = np.argsort(offsets)
        verdicts = np.frombuffer(b"".join(packed.to_pylist()), PACKED)
        return cls(offsets[order], verdicts[order])


NOTHING_TOLD = Told(np.empty(0, np.int64), np.empty(0, PACKED))


def register_rows(raw: pa.RecordBatch, decoder: Decoder, rules: Rules) -> pa.RecordBatch:
    """Rows (`first_verdict.REGISTERED`) of all uploads of a `numbered` raw batch, without
    their records. `content` is mixed with the place: whoever compares it finds that all copies
    of an upload differ, and has the terminal judged."""
    good, _ = decode_by_topic(raw, decoder)
    parts = [_registered(uploads, raw, rules) for uploads in good]
    none = pa.RecordBatch.from_pylist([], schema=REGISTERED)
    return next(iter(pa.Table.from_batches(parts, REGISTERED).combine_chunks().to_batches()), none)


def _registered(uploads: Uploads, raw: pa.RecordBatch, rules: Rules) -> pa.RecordBatch:
    prepared = prepare(uploads, rules).uploads
    register = summarize(prepared)
    verdicts = lone_verdicts(register, rules)
    suspect = (verdicts["source"] != DEVICE) | (verdicts["flags"] != 0)
    routine = TOLD if uploads.message_type in REPORT_TYPES else QUIET
    columns = {name: register.column(name) for name in register.schema.names}
    columns |= {name: prepared.head.column(name) for name in ("topic", "partition", "offset")}
    content = np.asarray(register.column("content")) ^ _mark(columns)
    fallback = verdicts["source"] == FALLBACK
    latest = filled_int64(register.column("latest_ms"), 0) - verdicts["offset_ms"]
    stamps = raw.column("timestamp").take(register.column("line"))
    columns |= {
        "kind": pa.array(np.where(suspect, SUSPECT, routine).astype(np.int8)),
        "event_ms": pa.array(np.where(fallback, verdicts["received_ms"], latest)),
        "content": pa.array(content.view(np.int64)),
        "ignition_on": register.column("ignition_on").cast(pa.int8()),
        "timestamp": stamps.cast(pa.int64()).fill_null(0),
        "parts": pa.repeat(pa.scalar(b""), register.num_rows),
    }
    for name in ("key", "value", "headers"):
        columns[name] = pa.nulls(register.num_rows, pa.binary())
    return pa.RecordBatch.from_arrays([columns[n] for n in REGISTERED.names], schema=REGISTERED)


def _mark(columns: dict[str, pa.Array]) -> np.ndarray:
    """uint64 of shape (uploads,), different for different places."""
    encoded = columns["topic"].dictionary_encode()
    topics = [zlib.crc32(text.encode()) for text in encoded.dictionary.to_pylist()]
    mark = np.array(topics, np.uint64)[np.asarray(encoded.indices)] * _TOPIC
    mark += filled_int64(columns["partition"], 0).view(np.uint64) * _PARTITION
    return np.asarray(mark + filled_int64(columns["offset"], 0).view(np.uint64))


def lone_verdicts(register: pa.RecordBatch, rules: Rules) -> np.ndarray:
    """`PACKED` of shape (uploads,): verdicts on upload summaries, each as its terminal's only
    one."""
    received = filled_int64(register.column("received_ms"), 0)
    times = Times(
        np.arange(register.num_rows),
        received,
        filled_int64(register.column("latest_ms"), 0),
        filled_int64(register.column("boot_count"), -1),
        filled_int64(register.column("uptime_s"), -1),
    )
    clock = judge_clocks(times, rules.clock)
    verdicts = np.zeros(register.num_rows, PACKED)
    verdicts["counts"] = verdicts["shows"] = 1
    verdicts["ignition_counts"] = -1
    verdicts["offset_ms"], verdicts["source"] = clock.offset_ms, clock.source
    verdicts["received_ms"], verdicts["flags"] = received, clock.flags
    return verdicts


def judge_dossiers(
    dossiers: pa.RecordBatch, objects: pa.Array, bindings: Bindings, rules: Rules
) -> pa.RecordBatch:
    """What whole dossiers (`revised_minutes.DOSSIER`, of `register_rows`) tell, as `TOLD_ROWS`
    on all rows that neighbours may have a say in. `objects` name the archive object of each row: it
    decides which of two copies received at once was the first."""
    rows = dossiers.take(pa.array(np.lexsort((dossiers.column("offset"), ranks(objects)))))
    said = judge(_register(rows), bindings.vehicle_at, rules)
    own = lone_verdicts(rows, rules)
    verdicts = own.copy()
    verdicts["offset_ms"] = verdicts["source"] = verdicts["flags"] = 0
    at = np.asarray(said.column("line"))
    for name in FIELDS:
        verdicts[name][at] = filled_int64(said.column(name), -1)
    differs = verdicts != own
    touched = differs | (np.asarray(rows.column("kind")) != QUIET) | _has_copies(rows)
    chosen = np.flatnonzero(touched)
    places = rows.select(["topic", "partition", "offset"]).take(pa.array(chosen))
    packed = _as_bytes(verdicts[chosen]).take(
        pa.array(np.arange(len(chosen)), mask=~differs[chosen])
    )
    return pa.RecordBatch.from_arrays([*places.columns, packed], schema=TOLD_ROWS)


def _register(rows: pa.RecordBatch) -> pa.Table:
    """What `judge` wants, in the order of places; `line` is the row."""
    columns = {name: rows.column(name) for name in rows.schema.names}
    content = np.asarray(columns["content"]).view(np.uint64) ^ _mark(columns)
    columns |= {
        "object": pa.repeat(pa.scalar(""), rows.num_rows),
        "line": pa.array(np.arange(rows.num_rows)),
        "content": pa.array(content),
        "ignition_on": columns["ignition_on"].cast(pa.bool_()),
    }
    return pa.Table.from_arrays([columns[name] for name in JUDGED.names], schema=JUDGED)


def _as_bytes(verdicts: np.ndarray) -> pa.BinaryArray:
    offsets = np.arange(len(verdicts) + 1, dtype=np.int32) * PACKED.itemsize
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(verdicts.tobytes())]
    return pa.Array.from_buffers(pa.binary(), len(verdicts), buffers)


def _has_copies(rows: pa.RecordBatch) -> np.ndarray:
    message = codes(rows.column("message_id"))
    return np.asarray(np.bincount(message)[message] > 1)


def verdicts_on(
    register: pa.RecordBatch, offsets: np.ndarray, told: Told, rules: Rules, name: str
) -> pa.RecordBatch:
    """Verdicts (`verdicts.SCHEMA`) on uploads of the archive object `name`, exceptions only
    and ascending by line, given their upload summaries and offsets (int64 of the same shape)."""
    verdicts = lone_verdicts(register, rules)
    if len(told.offsets):
        at = np.minimum(np.searchsorted(told.offsets, offsets), len(told.offsets) - 1)
        hit = told.offsets[at] == offsets
        verdicts[hit] = told.verdicts[at[hit]]
    exceptional = (verdicts["counts"] == 0) | (verdicts["shows"] == 0)
    exceptional |= (verdicts["source"] != DEVICE) | (verdicts["flags"] != 0)
    lines = np.asarray(register.column("line"))
    rows = np.flatnonzero(exceptional)
    rows = rows[np.argsort(lines[rows], kind="stable")]
    chosen = verdicts[rows]
    columns = {column: np.ascontiguousarray(chosen[column]) for column in FIELDS}
    state = columns["ignition_counts"]
    arrays = {
        "object": pa.repeat(pa.scalar(name), len(rows)),
        "line": pa.array(lines[rows]),
        **{column: pa.array(values) for column, values in columns.items()},
        "counts": pa.array(columns["counts"] == 1),
        "shows": pa.array(columns["shows"] == 1),
        "ignition_counts": pa.array(state == 1, mask=state < 0),
    }
    return pa.RecordBatch.from_arrays([arrays[f.name] for f in VERDICTS], schema=VERDICTS)
