"""Verdicts on the uploads of a stream by place, for stores that write a block of offsets whole.

An upload gets its lone verdict, unless what its terminal's other uploads make of it overrides that.
Together they are the verdicts a backfill over the same uploads reaches.
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
from transforms.live.first_verdict import HISTORY, QUIET, REMEMBERED, SUSPECT, decode_by_topic
from transforms.live.lone_verdict import lone_verdicts
from transforms.model.arrow_numpy import codes, filled_int64, ranks
from transforms.model.thresholds import Rules
from transforms.model.uploads import Uploads
from transforms.terminal_rules.upload_summary import summarize
from transforms.terminal_rules.verdicts import SUMMARIES, Verdicts, judge

OVERRIDES = pa.schema(
    [
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("verdict", pa.binary()),
    ]
)
"""Verdicts (`verdicts.PACKED`) on uploads by place, null where they get their lone verdict."""

_TOPIC, _PARTITION = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


@dataclass(frozen=True)
class Overrides:
    """Verdicts on uploads of a partition that are not their lone ones, by offset, ascending."""

    offsets: np.ndarray
    verdicts: Verdicts

    @classmethod
    def unpack(cls, offsets: np.ndarray, packed: pa.BinaryArray) -> Overrides:
        """Of bytes (`OVERRIDES`), in any order."""
        order = np.argsort(offsets)
        return cls(offsets[order], Verdicts.from_packed(packed.take(pa.array(order))))


NO_OVERRIDES = Overrides(np.empty(0, np.int64), Verdicts.unremarkable(np.empty(0, np.int64)))


def upload_summaries(raw: pa.RecordBatch, decoder: Decoder, rules: Rules) -> pa.RecordBatch:
    """Rows (`first_verdict.REMEMBERED`) of all uploads of a `numbered` raw batch, without
    their records. `content` is mixed with the place: whoever compares it finds that all copies
    of an upload differ, and has the terminal judged."""
    good, _ = decode_by_topic(raw, decoder)
    parts = [_remembered(uploads, raw, rules) for uploads in good]
    none = pa.RecordBatch.from_pylist([], schema=REMEMBERED)
    return next(iter(pa.Table.from_batches(parts, REMEMBERED).combine_chunks().to_batches()), none)


def _remembered(uploads: Uploads, raw: pa.RecordBatch, rules: Rules) -> pa.RecordBatch:
    prepared = prepare(uploads, rules).uploads
    summaries = summarize(prepared)
    verdicts = lone_verdicts(summaries, rules)
    routine = HISTORY if uploads.message_type in REPORT_TYPES else QUIET
    columns = {name: summaries.column(name) for name in summaries.schema.names}
    columns |= {name: prepared.head.column(name) for name in ("topic", "partition", "offset")}
    content = np.asarray(summaries.column("content")) ^ _mark(columns)
    event = verdicts.event_ms(filled_int64(summaries.column("latest_ms"), 0))
    stamps = raw.column("timestamp").take(summaries.column("line"))
    columns |= {
        "kind": pa.array(np.where(verdicts.suspect(), SUSPECT, routine).astype(np.int8)),
        "event_ms": pa.array(event),
        "content": pa.array(content.view(np.int64)),
        "ignition_on": summaries.column("ignition_on").cast(pa.int8()),
        "timestamp": stamps.cast(pa.int64()).fill_null(0),
        "parts": pa.repeat(pa.scalar(b""), summaries.num_rows),
    }
    for name in ("key", "value", "headers"):
        columns[name] = pa.nulls(summaries.num_rows, pa.binary())
    return pa.RecordBatch.from_arrays([columns[n] for n in REMEMBERED.names], schema=REMEMBERED)


def _mark(columns: dict[str, pa.Array]) -> np.ndarray:
    """uint64 of shape (uploads,), different for different places."""
    encoded = columns["topic"].dictionary_encode()
    topics = [zlib.crc32(text.encode()) for text in encoded.dictionary.to_pylist()]
    mark = np.array(topics, np.uint64)[np.asarray(encoded.indices)] * _TOPIC
    mark += filled_int64(columns["partition"], 0).view(np.uint64) * _PARTITION
    return np.asarray(mark + filled_int64(columns["offset"], 0).view(np.uint64))


def judge_dossiers(
    dossiers: pa.RecordBatch, objects: pa.Array, bindings: Bindings, rules: Rules
) -> pa.RecordBatch:
    """What whole dossiers (`revised_minutes.DOSSIER`, of `upload_summaries`) say, as `OVERRIDES`
    on all rows that neighbours may have a say in. `objects` name the archive object of each row: it
    decides which of two copies received at once was the first."""
    rows = dossiers.take(pa.array(np.lexsort((dossiers.column("offset"), ranks(objects)))))
    exceptions = judge(_summaries(rows), bindings.vehicle_at, rules)
    own = lone_verdicts(rows, rules)
    verdicts = Verdicts.unremarkable(own.received_ms).replaced(
        np.asarray(exceptions.column("line")), Verdicts.from_table(exceptions)
    )
    differs = verdicts.differ(own)
    touched = differs | (np.asarray(rows.column("kind")) != QUIET) | _has_copies(rows)
    chosen = np.flatnonzero(touched)
    places = rows.select(["topic", "partition", "offset"]).take(pa.array(chosen))
    at = pa.array(np.arange(len(chosen)), mask=~differs[chosen])
    packed = verdicts.take(chosen).to_packed().take(at)
    return pa.RecordBatch.from_arrays([*places.columns, packed], schema=OVERRIDES)


def _summaries(rows: pa.RecordBatch) -> pa.Table:
    """What `judge` wants, in the order of places; `line` is the row."""
    columns = {name: rows.column(name) for name in rows.schema.names}
    content = np.asarray(columns["content"]).view(np.uint64) ^ _mark(columns)
    columns |= {
        "object": pa.repeat(pa.scalar(""), rows.num_rows),
        "line": pa.array(np.arange(rows.num_rows)),
        "content": pa.array(content),
        "ignition_on": columns["ignition_on"].cast(pa.bool_()),
    }
    return pa.Table.from_arrays([columns[name] for name in SUMMARIES.names], schema=SUMMARIES)


def _has_copies(rows: pa.RecordBatch) -> np.ndarray:
    message = codes(rows.column("message_id"))
    return np.asarray(np.bincount(message)[message] > 1)


def verdicts_on(
    summaries: pa.RecordBatch, offsets: np.ndarray, overrides: Overrides, rules: Rules, name: str
) -> pa.RecordBatch:
    """Verdicts (`verdicts.SCHEMA`) on uploads of the archive object `name`, exceptions only
    and ascending by line, given their summaries and offsets (int64 of the same shape)."""
    verdicts = lone_verdicts(summaries, rules)
    if len(overrides.offsets):
        at = np.minimum(np.searchsorted(overrides.offsets, offsets), len(overrides.offsets) - 1)
        hit = np.flatnonzero(overrides.offsets[at] == offsets)
        verdicts = verdicts.replaced(hit, overrides.verdicts.take(at[hit]))
    lines = np.asarray(summaries.column("line"))
    rows = np.flatnonzero(verdicts.exceptional())
    rows = rows[np.argsort(lines[rows], kind="stable")]
    objects = pa.repeat(pa.scalar(name), len(rows))
    return verdicts.take(rows).to_table(objects, pa.array(lines[rows]))
