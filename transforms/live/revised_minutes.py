"""A terminal's uploads judged together, again and again as they come (the stream's `judge`).

A dossier holds the summaries of all uploads of a terminal that are remembered. The verdicts on
it are those a backfill over the same uploads would reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.layouts import layout
from transforms.bindings.bindings import Bindings
from transforms.decode.decoder import Decoder
from transforms.facts.packed_partials import parts
from transforms.facts.telemetry import prepare, settle
from transforms.facts.vehicle_minutes import PARTIALS
from transforms.live.first_verdict import CONTRIBUTIONS, QUIET, decode_by_topic
from transforms.live.lone_verdict import is_late
from transforms.model.arrow_numpy import codes, filled_int64
from transforms.model.quality_flags import BIT
from transforms.model.raw_messages import SCHEMA as RAW
from transforms.model.thresholds import Rules
from transforms.terminal_rules.verdicts import SUMMARIES, Verdicts, judge

DOSSIER = layout("dossier")
"""`parts` are without partials: where the upload added something when it was first looked at."""

ReadAgain = Callable[[pa.RecordBatch], pa.RecordBatch]
"""Records (`raw_messages.SCHEMA`) at the places (columns topic, partition, offset) given, in
that order; those no longer there are left out."""


def revise(
    dossiers: pa.RecordBatch,
    read_again: ReadAgain,
    decoder: Decoder,
    bindings: Bindings,
    rules: Rules,
    lateness_ms: int,
) -> pa.RecordBatch:
    """`CONTRIBUTIONS` of all uploads in whole dossiers that neighbours can have a say in."""
    rows, verdicts = judged(dossiers, bindings, rules, lateness_ms)
    wanted = _wanted(rows, verdicts)
    if not len(wanted):
        return pa.RecordBatch.from_pylist([], schema=CONTRIBUTIONS)
    raw = records(rows, wanted, read_again)
    good, _ = decode_by_topic(raw, decoder)
    partials = pa.Table.from_batches(
        [settle(prepare(uploads, rules), verdicts, bindings, rules).partials for uploads in good],
        PARTIALS,
    )
    found = wanted[np.isin(wanted, np.asarray(raw.column("line")))]
    chosen = rows.take(pa.array(found))
    columns = [chosen.column(name) for name in ("device_no", "message_id", "version")]
    columns += [parts(partials, chosen.column("message_id")), chosen.column("parts")]
    return pa.RecordBatch.from_arrays(columns, schema=CONTRIBUTIONS)


def judged(
    dossiers: pa.RecordBatch, bindings: Bindings, rules: Rules, lateness_ms: int
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The rows of dossiers by place, and a verdict on every one of them, `line` being the row;
    late uploads do not count."""
    keys = [("topic", "ascending"), ("partition", "ascending"), ("offset", "ascending")]
    rows = dossiers.take(pc.sort_indices(dossiers, sort_keys=keys))
    count = rows.num_rows
    columns = {name: rows.column(name) for name in rows.schema.names} | {
        "object": pa.repeat(pa.scalar(""), count),
        "line": pa.array(np.arange(count, dtype=np.int64)),
        "content": pa.array(np.asarray(rows.column("content")).view(np.uint64)),
        "ignition_on": rows.column("ignition_on").cast(pa.bool_()),
    }
    table = pa.Table.from_arrays([columns[name] for name in SUMMARIES.names], schema=SUMMARIES)
    exceptions = judge(table, bindings.vehicle_at, rules)
    verdicts = Verdicts.unremarkable(filled_int64(rows.column("received_ms"), 0)).replaced(
        np.asarray(exceptions.column("line")), Verdicts.from_table(exceptions)
    )
    event = verdicts.event_ms(filled_int64(rows.column("latest_ms"), 0))
    late = is_late(filled_int64(rows.column("received_ms"), 0), event, lateness_ms)
    verdicts = replace(verdicts, counts=verdicts.counts & ~late)
    return rows, verdicts.to_table(columns["object"], columns["line"])


def _wanted(rows: pa.RecordBatch, verdicts: pa.RecordBatch) -> np.ndarray:
    """Rows to settle, one a message: the copy that counts, else the first one.

    Left out are QUIET uploads that nothing can change: without copies that differ from them or
    come before them.
    """
    message = codes(rows.column("message_id"))
    counts = np.asarray(verdicts.column("counts").to_numpy(zero_copy_only=False), bool)
    place = np.arange(len(message))
    order = np.lexsort((place, ~counts, message))
    starts = np.flatnonzero(np.diff(message[order], prepend=-1))
    chosen = order[starts]
    first = np.minimum.reduceat(place[order], starts)
    differs = (np.asarray(verdicts.column("flags")) & BIT["DUP_DIFF"]) != 0
    not_quiet = np.asarray(rows.column("kind")) != QUIET
    touched = (not_quiet | differs)[chosen] | (chosen != first)
    return np.sort(chosen[touched])


def records(rows: pa.RecordBatch, wanted: np.ndarray, read_again: ReadAgain) -> pa.RecordBatch:
    """The records of the wanted rows (ascending), `line` being the row; some are read from their
    topics, those no longer there left out."""
    chosen = rows.take(pa.array(wanted))
    kept = np.asarray(chosen.column("value").is_valid())
    raw = _raw(chosen.filter(pa.array(kept)), wanted[kept])
    if kept.all():
        return raw
    places = chosen.filter(pa.array(~kept)).select(["topic", "partition", "offset"])
    again = read_again(places)
    lines = wanted[~kept][_found(again, places)]
    at = RAW.get_field_index("line")
    again = again.set_column(at, RAW.field(at), pa.array(lines))
    both = pa.Table.from_batches([raw, again], RAW).sort_by("line").combine_chunks()
    return both.to_batches()[0]


def _found(again: pa.RecordBatch, places: pa.RecordBatch) -> np.ndarray:
    """int64 of shape (records read,): which of the places each record is from."""
    at = {place: row for row, place in enumerate(_places(places))}
    return np.array([at[place] for place in _places(again)], np.int64)


def _places(batch: pa.RecordBatch) -> list[tuple[str, int, int]]:
    columns = (batch.column(name).to_pylist() for name in ("topic", "partition", "offset"))
    return list(zip(*columns, strict=True))


def _raw(rows: pa.RecordBatch, lines: np.ndarray) -> pa.RecordBatch:
    count = rows.num_rows
    columns = {name: rows.column(name) for name in ("topic", "partition", "offset", "key", "value")}
    columns |= {
        "line": pa.array(lines),
        "timestamp": rows.column("timestamp").cast(pa.timestamp("ms")),
        "is_line": pa.repeat(pa.scalar(False), count),
    }
    arrays = [
        columns[field.name].cast(field.type)
        if field.name in columns
        else pa.nulls(count, field.type)
        for field in RAW
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW)
