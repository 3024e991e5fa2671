"""Stage 1, decode: raw messages (JSON, CSA text or Avro) to uploads or dead letters."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import MESSAGE_TYPES, load
from transforms.decode import avro
from transforms.decode.csa_text import decode_frames
from transforms.decode.repair import Repaired, assemble, repair_lines
from transforms.decode.sts_json import decode_json
from transforms.decode.writer_schemas import unfit
from transforms.model.dead_letters import Outcome, Refusal, dead_letters
from transforms.model.known_terminals import KnownTerminals
from transforms.model.quality_flags import BIT
from transforms.model.thresholds import Bounds
from transforms.model.uploads import Uploads, settle_received_time

_TYPE_IN_JSON = re.compile(rb'"type"\s*:\s*"(\w{1,16})"')


@dataclass
class NoSchemas:
    """The source of writer schemas when none is configured: every schema id is unknown."""

    def lookup(self, schema_id: int) -> dict[str, Any] | None:
        return None


@dataclass(frozen=True)
class Decoder:
    """What decoding needs besides the bytes: bounds, known terminals, writer schemas."""

    bounds: Bounds = field(default_factory=Bounds)
    terminals: KnownTerminals = field(default_factory=KnownTerminals)
    writers: avro.WriterSchemas = field(default_factory=NoSchemas)


def decode(raw: pa.RecordBatch, decoder: Decoder) -> Outcome[list[Uploads]]:
    """Uploads of a raw batch (`raw_messages.SCHEMA`) by message type, and a dead letter (stage
    DECODE) for every message that cannot be one.

    Raises what `decoder.writers` raises when the source of schemas is down.
    """
    parts: list[Part] = []
    refusals: list[Refusal] = []
    kinds = _kinds(raw.column("value"))
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        if kind == _AVRO:
            done, bad = _avro(raw, rows, decoder)
        elif kind == _CSA:
            lines, bad = decode_frames(raw, rows.tolist(), decoder.terminals, decoder.bounds)
            done = _assemble(lines, raw, "CSA")
        else:
            done, bad = _json(raw, rows, decoder)
        parts += done
        refusals += bad
    return finish(parts, refusals, raw, decoder)


Part = tuple[Uploads, pa.RecordBatch]
"""Uploads of one type and their raw rows."""


def finish(
    parts: Sequence[Part], refusals: list[Refusal], raw: pa.RecordBatch, decoder: Decoder
) -> Outcome[list[Uploads]]:
    """The outcome of decoding: receive times are filled in, uploads without any time are
    refused."""
    good = []
    for uploads, chosen in parts:
        uploads = settle_received_time(uploads, chosen, BIT["RECEIVED_TIME_ESTIMATED"])
        timeless = np.asarray(uploads.head.column("received_time").is_null())
        if timeless.any():
            uploads, lost = _drop_timeless(uploads, raw, timeless)
            refusals += lost
        if len(uploads):
            good.append(uploads)
    return Outcome(
        good, dead_letters(raw, refusals, "DECODE", decoder.bounds.max_dead_letter_bytes)
    )


_JSON, _CSA, _AVRO = 0, 1, 2


def _kinds(values: pa.Array) -> np.ndarray:
    """int8 of shape (rows,): by the first byte, `$` CSA, 0 Avro, anything else JSON."""
    first = pc.binary_slice(values, 0, 1) if hasattr(pc, "binary_slice") else None
    kinds = np.zeros(len(values), np.int8)
    kinds[np.asarray(pc.equal(first, b"$").fill_null(False))] = _CSA
    kinds[np.asarray(pc.equal(first, b"\0").fill_null(False))] = _AVRO
    return kinds


def _expected_type(raw: pa.RecordBatch) -> str | None:
    """The message type in the topic's name, where the whole batch is of one topic; else None."""
    topics = pc.unique(raw.column("topic")).to_pylist()
    name = topics[0].rpartition("-")[2] if len(topics) == 1 else ""
    return name if name in MESSAGE_TYPES else None


def _json(
    raw: pa.RecordBatch, rows: np.ndarray, decoder: Decoder
) -> tuple[list[Part], list[Refusal]]:
    lines = raw if len(rows) == raw.num_rows else raw.take(pa.array(rows))
    expected = _expected_type(raw)
    parts: list[Part] = []
    repair: list[int] = []
    for message_type, subset in _by_type(lines, expected):
        batch = lines if len(subset) == lines.num_rows else lines.take(pa.array(subset))
        parsed = decode_json(batch, message_type, decoder.bounds)
        if parsed.uploads is not None:
            parts.append((parsed.uploads, parsed.raw))
        repair += rows[subset[parsed.repair]].tolist()
    repaired, refusals = repair_lines(raw, sorted(repair), decoder.terminals, decoder.bounds)
    return parts + _assemble(repaired, raw, "STS"), refusals


def _by_type(lines: pa.RecordBatch, expected: str | None) -> list[tuple[str, np.ndarray]]:
    if expected is not None:
        return [(expected, np.arange(lines.num_rows))]
    groups = defaultdict(list)
    for row, value in enumerate(lines.column("value").to_pylist()):
        match = _TYPE_IN_JSON.search(value or b"")
        name = match[1].decode() if match else ""
        groups[name if name in MESSAGE_TYPES else MESSAGE_TYPES[0]].append(row)
    return [(name, np.array(rows)) for name, rows in sorted(groups.items())]


def _assemble(repaired: Sequence[Repaired], raw: pa.RecordBatch, generation: str) -> list[Part]:
    groups: dict[str, list[Repaired]] = defaultdict(list)
    for upload in repaired:
        groups[upload.message_type].append(upload)
    return [assemble(groups[name], raw, name, generation) for name in sorted(groups)]


def _avro(
    raw: pa.RecordBatch, rows: np.ndarray, decoder: Decoder
) -> tuple[list[Part], list[Refusal]]:
    groups, refusals = avro.cut_frames(raw, rows, decoder.bounds)
    parts: list[Part] = []
    for bodies in groups:
        writer = decoder.writers.lookup(bodies.schema_id) if bodies.schema_id else None
        message_type = avro.message_type_of(writer) if writer else None
        if writer is None or message_type is None:
            kind = "UNKNOWN_SCHEMA_ID" if writer is None else "UNKNOWN_TYPE"
            reason = "is not in the schema directory" if writer is None else "is no message schema"
            text = f"schema id {bodies.schema_id} {reason}"
            refusals += [Refusal(row, kind, text) for row in bodies.rows.tolist()]
            continue
        misfit = unfit(writer)
        if misfit is not None:
            text = f"schema id {bodies.schema_id}: {misfit}"
            refusals += [Refusal(row, "BAD_AVRO", text) for row in bodies.rows.tolist()]
            continue
        done, bad = avro.decode_bodies(bodies, json.dumps(writer))
        refusals += bad
        for good, items in done:
            part, lacking = avro_uploads(good, items, raw, message_type, decoder)
            parts += part
            refusals += lacking
    return parts, refusals


def avro_uploads(
    rows: np.ndarray,
    items: pa.StructArray,
    raw: pa.RecordBatch,
    message_type: str,
    decoder: Decoder,
) -> tuple[list[Part], list[Refusal]]:
    """Uploads of decoded records; `rows` are their rows in the raw batch. Records that lack what an
    upload needs are refused.

    The writer's types may be any. A record that cannot be converted to our types is found by
    cutting, so that no other record is refused with it."""
    try:
        return _resolved(rows, items, raw, message_type, decoder)
    except MemoryError:
        raise
    except Exception as error:  # whatever a foreign schema led the casts into
        if len(rows) == 1:
            text = f"{type(error).__name__}: {error}"
            return [], [Refusal(int(rows[0]), "BAD_AVRO", text)]
    parts: list[Part] = []
    refusals: list[Refusal] = []
    step = -(-len(rows) // avro.CUTS)
    for start in range(0, len(rows), step):
        cut = items.take(pa.array(np.arange(start, min(start + step, len(rows)))))
        good, bad = avro_uploads(rows[start : start + step], cut, raw, message_type, decoder)
        parts += good
        refusals += bad
    return parts, refusals


def _resolved(
    rows: np.ndarray,
    items: pa.StructArray,
    raw: pa.RecordBatch,
    message_type: str,
    decoder: Decoder,
) -> tuple[list[Part], list[Refusal]]:
    lacking = avro.incomplete(items, message_type, decoder.bounds)
    refusals = [Refusal(int(rows[at]), kind, text) for at, (kind, text) in sorted(lacking.items())]
    kept = np.delete(np.arange(len(rows)), list(lacking))
    if not len(kept):
        return [], refusals
    if lacking:
        items = items.take(pa.array(kept))
    whole = len(kept) == raw.num_rows
    chosen = raw if whole else raw.take(pa.array(rows[kept]))
    reader = load(f"message_{message_type}").avro
    return [(avro.to_uploads(items, chosen, message_type, reader), chosen)], refusals


def _drop_timeless(
    uploads: Uploads, raw: pa.RecordBatch, timeless: np.ndarray
) -> tuple[Uploads, list[Refusal]]:
    """Refuse uploads without any time; their `line` leads to their row in the raw batch."""
    lines = np.asarray(raw.column("line"))
    lost = np.asarray(uploads.head.column("line"))[timeless]
    refusals = [
        Refusal(int(np.flatnonzero(lines == line)[0]), "NO_TIME", "no device time, no receive time")
        for line in lost
    ]
    return uploads.keep(~timeless), refusals
