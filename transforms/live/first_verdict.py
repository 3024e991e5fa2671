"""What uploads of a stream say by themselves, before anything is known of the terminal's others.

The same stages as a backfill's, with the verdict each upload would get if it were the only one.
`revised_minutes` and `revised_rows` correct it once neighbours say more.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import REPORT_TYPES
from schemas.layouts import layout
from transforms.bindings.bindings import Bindings
from transforms.decode.decoder import Decoder, decode
from transforms.facts.packed_partials import parts
from transforms.facts.telemetry import Prepared, Settled, prepare, settle
from transforms.live.lone_verdict import is_late, lone_verdicts
from transforms.model.arrow_numpy import codes, filled_int64
from transforms.model.dead_letters import DEAD_SCHEMA
from transforms.model.raw_messages import SCHEMA as RAW
from transforms.model.thresholds import Rules
from transforms.model.uploads import Uploads, concat_uploads
from transforms.terminal_rules.upload_summary import summarize

QUIET, HISTORY, SUSPECT = range(3)
"""Kinds of uploads. QUIET: good clock, of no history rule. HISTORY: good clock, part of a
terminal's history (log, boot). SUSPECT: a clock that neighbours may judge otherwise."""


@dataclass(frozen=True)
class Look:
    """Uploads of one message type: their summaries (`upload_summary.SCHEMA`, `line` is
    the row in the raw batch), kinds int8, event times int64 ms of their newest samples and
    whether they are late, all of shape (uploads,); and their facts under their own verdicts."""

    prepared: Prepared
    summaries: pa.RecordBatch
    kind: np.ndarray
    event_ms: np.ndarray
    late: np.ndarray
    settled: Settled


@dataclass(frozen=True)
class FirstLook:
    """`looks` and `dead` (schema `dead_letter`) together hold every message once."""

    looks: list[Look]
    dead: pa.Table


def numbered(raw: pa.RecordBatch) -> pa.RecordBatch:
    """A raw batch whose `line` is the row in it: unique where several partitions meet."""
    at = RAW.get_field_index("line")
    return raw.set_column(at, RAW.field(at), pa.array(np.arange(raw.num_rows, dtype=np.int64)))


def first_look(
    raw: pa.RecordBatch, decoder: Decoder, bindings: Bindings, rules: Rules, lateness_ms: int
) -> FirstLook:
    """Decode, prepare and settle a `numbered` raw batch of any topics."""
    good, dead = decode_by_topic(raw, decoder)
    looks = [look(uploads, bindings, rules, lateness_ms) for uploads in good]
    return FirstLook(looks, dead)


def decode_by_topic(raw: pa.RecordBatch, decoder: Decoder) -> tuple[list[Uploads], pa.Table]:
    """Uploads joined by message type, and dead letters. Decoding is native where all messages of
    a batch are of the type their topic promises, so each topic is decoded by itself."""
    parts: dict[str, list[Uploads]] = defaultdict(list)
    dead = [DEAD_SCHEMA.empty_table()]
    topics = raw.column("topic")
    for topic in pc.unique(topics).to_pylist():
        of_topic = raw.filter(pc.equal(topics, topic))
        outcome = decode(of_topic, decoder)
        dead.append(pa.Table.from_batches([outcome.dead]))
        for uploads in outcome.good:
            parts[uploads.message_type].append(uploads)
    return [concat_uploads(parts[name]) for name in sorted(parts)], pa.concat_tables(dead)


def look(uploads: Uploads, bindings: Bindings, rules: Rules, lateness_ms: int) -> Look:
    """First look at uploads of one type."""
    prepared = prepare(uploads, rules)
    summaries = summarize(prepared.uploads)
    verdicts = lone_verdicts(summaries, rules)
    event = verdicts.event_ms(filled_int64(summaries.column("latest_ms"), 0))
    suspect = verdicts.suspect()
    late = is_late(verdicts.received_ms, event, lateness_ms)
    counts = _first_of_its_id(summaries.column("message_id"), ~late)
    verdicts = replace(verdicts, counts=counts)
    rows = np.flatnonzero(verdicts.exceptional())
    objects = pa.repeat(pa.scalar(""), len(rows))
    lines = summaries.column("line").take(pa.array(rows))
    exceptions = verdicts.take(rows).to_table(objects, lines)
    settled = settle(prepared, in_line_order(exceptions), bindings, rules)
    routine = HISTORY if uploads.message_type in REPORT_TYPES else QUIET
    kind = np.where(suspect, SUSPECT, routine).astype(np.int8)
    return Look(prepared, summaries, kind, event, late, settled)


def in_line_order(verdicts: pa.RecordBatch) -> pa.RecordBatch:
    """Verdicts ascending by line, as `settle` wants them."""
    order = np.argsort(np.asarray(verdicts.column("line")), kind="stable")
    return verdicts.take(pa.array(order))


def _first_of_its_id(message_id: pa.Array, among: np.ndarray) -> np.ndarray:
    """bool of shape (uploads,): one `among` which no copy of the upload stands before."""
    first = np.zeros(len(message_id), bool)
    rows = np.flatnonzero(among)
    first[rows[np.unique(codes(message_id)[rows], return_index=True)[1]]] = True
    return first


CONTRIBUTIONS = layout("minute_correction")
"""What an upload adds to minutes now (`packed_partials.parts`), and where it added something
when it was first looked at (the same, without partials)."""

REMEMBERED = layout("upload")
"""An upload summary that remembers its record: `key`, `value` and `headers` (packed) are null for
QUIET uploads, which are hardly ever looked at again and then read from their topic. `parts` is what
the upload adds to minutes (`transforms.facts.packed_partials.parts`)."""


def remembered(looks: list[Look], raw: pa.RecordBatch, headers: pa.BinaryArray) -> pa.RecordBatch:
    """Summaries of all uploads that are not late, which have no say in what others come to;
    `headers` are the packed ones of the raw batch."""
    parts = [_remembered(look, raw, headers) for look in looks]
    none = pa.RecordBatch.from_pylist([], schema=REMEMBERED)
    return next(iter(pa.Table.from_batches(parts, REMEMBERED).combine_chunks().to_batches()), none)


def _remembered(look: Look, raw: pa.RecordBatch, headers: pa.BinaryArray) -> pa.RecordBatch:
    in_time = pa.array(~look.late)
    summaries = look.summaries.filter(in_time)
    lines = np.asarray(summaries.column("line"))
    kind = look.kind[~look.late]
    at = pa.array(lines)
    kept = pa.array(lines, mask=kind == QUIET)
    columns = {name: summaries.column(name) for name in summaries.schema.names}
    columns |= {name: raw.column(name).take(at) for name in ("topic", "partition", "offset")}
    columns |= {
        "kind": pa.array(kind),
        "event_ms": pa.array(look.event_ms[~look.late]),
        "content": pa.array(np.asarray(summaries.column("content")).view(np.int64)),
        "ignition_on": summaries.column("ignition_on").cast(pa.int8()),
        "timestamp": raw.column("timestamp").take(at).cast(pa.int64()).fill_null(0),
        "key": raw.column("key").take(kept),
        "value": raw.column("value").take(kept),
        "headers": headers.take(kept),
        "parts": parts(look.settled.partials, summaries.column("message_id")),
    }
    return pa.RecordBatch.from_arrays([columns[n] for n in REMEMBERED.names], schema=REMEMBERED)
