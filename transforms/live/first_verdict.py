"""What uploads of a stream say by themselves, before anything is known of the terminal's others.

The same stages as a backfill's, with the verdict each upload would get if it were the only one.
`dossier` corrects it once neighbours say more.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import REPORT_TYPES
from transforms.bindings.bindings import Bindings
from transforms.decode.decoder import Decoder, decode
from transforms.facts.packed_partials import parts
from transforms.facts.telemetry import Prepared, Settled, prepare, settle
from transforms.model.arrow_numpy import codes, filled_int64
from transforms.model.dead_letters import DEAD_SCHEMA
from transforms.model.raw_messages import SCHEMA as RAW
from transforms.model.thresholds import Rules
from transforms.model.uploads import Uploads, concat_uploads, latest_device_time
from transforms.terminal_rules.clock import DEVICE, FALLBACK, Times, Verdict, judge_clocks
from transforms.terminal_rules.upload_summary import summarize
from transforms.terminal_rules.verdicts import SCHEMA as VERDICTS

QUIET, TOLD, SUSPECT = range(3)
"""Kinds of uploads. QUIET: good clock, of no history rule. TOLD: good clock, part of a terminal's
history (log, boot). SUSPECT: a clock that neighbours may judge otherwise."""


@dataclass(frozen=True)
class Look:
    """Uploads of one message type: their upload summaries (`upload_summary.SCHEMA`, `line` is
    the row in the raw batch), kinds int8, event times int64 ms of their newest samples and
    whether they are late, all of shape (uploads,); and their facts under their own verdicts."""

    prepared: Prepared
    register: pa.RecordBatch
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
    register = summarize(prepared.uploads)
    received = filled_int64(register.column("received_ms"), 0)
    latest = filled_int64(register.column("latest_ms"), 0)
    clock = lone_verdict(register, received, latest, rules)
    event = _event_ms(clock, received, latest)
    suspect = (clock.source != DEVICE) | (clock.flags != 0)
    late = is_late(received, event, lateness_ms)
    counts = _first_of_its_id(register.column("message_id"), ~late)
    rows = np.flatnonzero(suspect | ~counts)
    verdicts = pa.RecordBatch.from_arrays(
        [
            pa.repeat(pa.scalar(""), len(rows)),
            register.column("line").take(pa.array(rows)),
            pa.array(counts[rows]),
            pa.array(np.ones(len(rows), bool)),
            pa.array(clock.offset_ms[rows]),
            pa.array(clock.source[rows]),
            pa.array(received[rows]),
            pa.array(clock.flags[rows]),
            pa.nulls(len(rows), pa.bool_()),
        ],
        schema=VERDICTS,
    )
    settled = settle(prepared, in_line_order(verdicts), bindings, rules)
    routine = TOLD if uploads.message_type in REPORT_TYPES else QUIET
    kind = np.where(suspect, SUSPECT, routine).astype(np.int8)
    return Look(prepared, register, kind, event, late, settled)


def is_late(received_ms: np.ndarray, event_ms: np.ndarray, lateness_ms: int) -> np.ndarray:
    """bool of shape (uploads,): received so long after it happened that its minute is closed. A
    function of the upload alone, so that a replay decides the same."""
    return np.asarray(received_ms - event_ms > lateness_ms)


def in_line_order(verdicts: pa.RecordBatch) -> pa.RecordBatch:
    """Verdicts ascending by line, as `settle` wants them."""
    order = np.argsort(np.asarray(verdicts.column("line")), kind="stable")
    return verdicts.take(pa.array(order))


def newest_event_ms(uploads: Uploads, rules: Rules) -> np.ndarray:
    """int64 of shape (uploads,): when the newest sample of each happened, by its own clock's
    verdict; `uploads` as decoded."""
    received = filled_int64(uploads.head.column("received_time"), 0)
    latest = latest_device_time(uploads)
    clock = lone_verdict(uploads.head, received, latest, rules)
    return _event_ms(clock, received, latest)


def _event_ms(clock: Verdict, received: np.ndarray, latest: np.ndarray) -> np.ndarray:
    return np.where(clock.source == FALLBACK, received, latest - clock.offset_ms)


def lone_verdict(
    rows: pa.RecordBatch, received: np.ndarray, latest: np.ndarray, rules: Rules
) -> Verdict:
    """The verdict on each clock as if the upload were its terminal's only one; `rows` have
    boot_count and uptime_s, the times are epoch ms."""
    boot_count = filled_int64(rows.column("boot_count"), -1)
    uptime_s = filled_int64(rows.column("uptime_s"), -1)
    times = Times(np.arange(rows.num_rows), received, latest, boot_count, uptime_s)
    return judge_clocks(times, rules.clock)


def _first_of_its_id(message_id: pa.Array, among: np.ndarray) -> np.ndarray:
    """bool of shape (uploads,): one `among` which no copy of the upload stands before."""
    first = np.zeros(len(message_id), bool)
    rows = np.flatnonzero(among)
    first[rows[np.unique(codes(message_id)[rows], return_index=True)[1]]] = True
    return first


CONTRIBUTIONS = pa.schema(
    [
        pa.field("device_no", pa.string(), nullable=False),
        pa.field("message_id", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("parts", pa.binary(), nullable=False),
        pa.field("was", pa.binary(), nullable=False),
    ]
)
"""What an upload adds to minutes now (`packed_partials.parts`), and where it added something
when it was first looked at (the same, without partials)."""

REGISTERED = pa.schema(
    [
        pa.field("device_no", pa.string(), nullable=False),
        pa.field("message_id", pa.string(), nullable=False),
        pa.field("kind", pa.int8(), nullable=False),
        pa.field("message_type", pa.int8(), nullable=False),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("received_ms", pa.int64(), nullable=False),
        pa.field("latest_ms", pa.int64(), nullable=False),
        pa.field("event_ms", pa.int64(), nullable=False),
        pa.field("boot_count", pa.int32()),
        pa.field("seq", pa.int64()),
        pa.field("uptime_s", pa.int64()),
        pa.field("samples", pa.int32(), nullable=False),
        pa.field("filled", pa.int32(), nullable=False),
        pa.field("content", pa.int64(), nullable=False),
        pa.field("odometer_m", pa.int64()),
        pa.field("ignition_on", pa.int8()),
        pa.field("timestamp", pa.int64(), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", pa.binary()),
        pa.field("parts", pa.binary(), nullable=False),
    ]
)
"""An upload summary that remembers its record: `key`, `value` and `headers` (packed) are null for
QUIET uploads, which are hardly ever looked at again and then read from their topic. `parts` is what
the upload adds to minutes (`transforms.facts.packed_partials.parts`)."""


def registered(looks: list[Look], raw: pa.RecordBatch, headers: pa.BinaryArray) -> pa.RecordBatch:
    """Upload summaries of all uploads that are not late, which have no say in what others come to;
    `headers` are the packed ones of the raw batch."""
    parts = [_registered(look, raw, headers) for look in looks]
    none = pa.RecordBatch.from_pylist([], schema=REGISTERED)
    return next(iter(pa.Table.from_batches(parts, REGISTERED).combine_chunks().to_batches()), none)


def _registered(look: Look, raw: pa.RecordBatch, headers: pa.BinaryArray) -> pa.RecordBatch:
    in_time = pa.array(~look.late)
    register = look.register.filter(in_time)
    lines = np.asarray(register.column("line"))
    kind = look.kind[~look.late]
    at = pa.array(lines)
    kept = pa.array(lines, mask=kind == QUIET)
    columns = {name: register.column(name) for name in register.schema.names}
    columns |= {name: raw.column(name).take(at) for name in ("topic", "partition", "offset")}
    columns |= {
        "kind": pa.array(kind),
        "event_ms": pa.array(look.event_ms[~look.late]),
        "content": pa.array(np.asarray(register.column("content")).view(np.int64)),
        "ignition_on": register.column("ignition_on").cast(pa.int8()),
        "timestamp": raw.column("timestamp").take(at).cast(pa.int64()).fill_null(0),
        "key": raw.column("key").take(kept),
        "value": raw.column("value").take(kept),
        "headers": headers.take(kept),
        "parts": parts(look.settled.partials, register.column("message_id")),
    }
    return pa.RecordBatch.from_arrays([columns[n] for n in REGISTERED.names], schema=REGISTERED)
