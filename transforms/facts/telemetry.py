"""Facts of a batch of uploads: event time, vehicle, table rows and minute partials.

`prepare` does what needs the upload alone (unroll, quality). `settle` needs its verdict and the
bindings as well.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas import REPORT_TYPES, payload_fields
from schemas.arrow import UTC_MS, telemetry_schema
from transforms.bindings.bindings import AMBIGUOUS, STATUS, UNBOUND, Bindings
from transforms.facts.vehicle_minutes import PARTIALS, Counted, partials
from transforms.model.arrow_numpy import NO_TIME, filled_int64, floats
from transforms.model.quality_flags import BIT, to_list_array
from transforms.model.thresholds import Rules
from transforms.model.uploads import EXTRAS, Uploads, replace_columns
from transforms.terminal_rules.clock import FALLBACK, SOURCES
from transforms.terminal_rules.verdicts import SCHEMA as VERDICTS
from transforms.upload_rules.quality import assess
from transforms.upload_rules.unroll import unroll

NO_VERDICTS = pa.RecordBatch.from_pylist([], schema=VERDICTS)


@dataclass(frozen=True)
class Prepared:
    """Uploads whose samples are in order and checked. `sample_idx` (int32) and `step_m` (float64,
    metres that count as distance) are of shape (rows,); `dropped` (int32, identical samples left
    out) is of shape (uploads,)."""

    uploads: Uploads
    sample_idx: np.ndarray
    step_m: np.ndarray
    dropped: np.ndarray


@dataclass(frozen=True)
class Settled:
    """`telemetry`: rows of `telemetry_<message_type>` (`rows_schema`); `event_ms`: int64 epoch ms
    of shape (rows,); `partials`: schema `PARTIALS`; `good`: how many uploads count."""

    message_type: str
    telemetry: pa.RecordBatch
    event_ms: np.ndarray
    partials: pa.RecordBatch
    good: int


def prepare(uploads: Uploads, rules: Rules) -> Prepared:
    """Order the samples, drop identical ones, check the values."""
    unrolled = unroll(uploads)
    assessed = assess(unrolled.uploads, rules)
    return Prepared(assessed.uploads, unrolled.sample_idx, assessed.step_m, unrolled.dropped)


@dataclass(frozen=True)
class _Ruled:
    """Verdicts spread over the uploads of a batch, shape (uploads,)."""

    counts: np.ndarray
    shows: np.ndarray
    offset_ms: np.ndarray
    source: np.ndarray
    received_ms: np.ndarray
    flags: np.ndarray
    ignition: np.ndarray


def _spread(head: pa.RecordBatch, verdicts: pa.RecordBatch) -> _Ruled:
    count = head.num_rows
    ruled = _Ruled(
        np.ones(count, bool),
        np.ones(count, bool),
        np.zeros(count, np.int64),
        np.zeros(count, np.int8),
        filled_int64(head.column("received_time"), 0).copy(),
        np.array(head.column("flags")),
        np.full(count, -1, np.int8),
    )
    if not verdicts.num_rows:
        return ruled
    lines = np.asarray(head.column("line"))
    judged = np.asarray(verdicts.column("line"))
    at = np.minimum(np.searchsorted(judged, lines), len(judged) - 1)
    hit = judged[at] == lines
    at = at[hit]
    ruled.counts[hit] = _bools(verdicts.column("counts"))[at]
    ruled.shows[hit] = _bools(verdicts.column("shows"))[at]
    ruled.offset_ms[hit] = np.asarray(verdicts.column("offset_ms"))[at]
    ruled.source[hit] = np.asarray(verdicts.column("source"))[at]
    ruled.received_ms[hit] = np.asarray(verdicts.column("received_ms"))[at]
    ruled.flags[hit] |= np.asarray(verdicts.column("flags"))[at]
    ruled.ignition[hit] = filled_int64(verdicts.column("ignition_counts"), -1)[at]
    return ruled


def _bools(column: pa.Array) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False), bool)


@dataclass(frozen=True)
class _Dated:
    """Event time, its source, flags and whether the sample may feed a minute; shape (rows,)."""

    event_ms: np.ndarray
    source: np.ndarray
    flags: np.ndarray
    feeds: np.ndarray


def _date(prepared: Prepared, ruled: _Ruled) -> _Dated:
    uploads = prepared.uploads
    upload = uploads.upload
    device_ms = filled_int64(uploads.rows.column("device_time"), NO_TIME)
    fallback = ruled.source == FALLBACK
    several = np.diff(uploads.starts) > 1
    source = ruled.source[upload]
    flags = np.asarray(uploads.rows.column("flags")) | ruled.flags[upload]
    event = device_ms - ruled.offset_ms[upload] if ruled.offset_ms.any() else device_ms
    feeds = (ruled.counts & ~(fallback & several))[upload]
    timeless = device_ms == NO_TIME
    if fallback.any() or timeless.any():
        event = np.where(timeless | fallback[upload], ruled.received_ms[upload], event)
        source = np.where(timeless, FALLBACK, source)
        flags = np.where(timeless, flags | BIT["DEVICE_TIME_MISSING"], flags)
        feeds &= ~(timeless & several[upload])
    return _Dated(event, source, flags, feeds)


def event_times(prepared: Prepared, verdicts: pa.RecordBatch) -> np.ndarray:
    """int64 of shape (rows,): event times (epoch ms) under `verdicts`, also of uploads that are not
    shown."""
    return _date(prepared, _spread(prepared.uploads.head, verdicts)).event_ms


def _changes(uploads: Uploads, event_ms: np.ndarray, bindings: Bindings) -> np.ndarray:
    """int64 of shape (rows,): the binding change in force at each sample, -1 for none.

    Looked up at the first and last event of an upload; only an upload that spans a change is
    looked up sample by sample.
    """
    terminal = bindings.find(uploads.head.column("device_no"))
    starts = uploads.starts[:-1]
    earliest = np.minimum.reduceat(event_ms, starts)
    latest = np.maximum.reduceat(event_ms, starts)
    before = bindings.change_at(terminal, earliest)
    after = bindings.change_at(terminal, latest)
    upload = uploads.upload
    change = np.array(before[upload])
    spans = (before != after)[upload]
    if spans.any():
        change[spans] = bindings.change_at(terminal[upload[spans]], event_ms[spans])
    return change


def settle(
    prepared: Prepared, verdicts: pa.RecordBatch, bindings: Bindings, rules: Rules
) -> Settled:
    """The facts of a batch of one archive object.

    `verdicts` are those on the object, ascending by line; an upload without one counts and has a
    good clock.
    """
    ruled = _spread(prepared.uploads.head, verdicts)
    good = int(ruled.counts.sum())
    used = ruled.counts | ruled.shows
    if not used.all():
        prepared, ruled = _only(prepared, ruled, used)
    uploads = prepared.uploads
    message_type = uploads.message_type
    if not len(uploads):
        empty = pa.RecordBatch.from_pylist([], schema=rows_schema(message_type))
        nothing = pa.RecordBatch.from_pylist([], schema=PARTIALS)
        return Settled(message_type, empty, np.empty(0, np.int64), nothing, good)
    dated = _date(prepared, ruled)
    change = _changes(uploads, dated.event_ms, bindings)
    keys = _Keys.of(uploads, bindings, change)
    telemetry = _telemetry(prepared, dated, bindings, change, keys)
    counted = _counted(prepared, ruled, dated, keys)
    event_ms = dated.event_ms
    if not ruled.shows.all():
        shown = ruled.shows[uploads.upload]
        telemetry, event_ms = telemetry.filter(pa.array(shown)), event_ms[shown]
    return Settled(message_type, telemetry, event_ms, partials(counted, rules.minutes), good)


def _only(prepared: Prepared, ruled: _Ruled, used: np.ndarray) -> tuple[Prepared, _Ruled]:
    uploads = prepared.uploads
    rows = used[uploads.upload]
    kept = Prepared(
        uploads.keep(used), prepared.sample_idx[rows], prepared.step_m[rows], prepared.dropped[used]
    )
    fields = (ruled.counts, ruled.shows, ruled.offset_ms, ruled.source, ruled.received_ms)
    return kept, _Ruled(*(f[used] for f in (*fields, ruled.flags, ruled.ignition)))


@dataclass(frozen=True)
class _Keys:
    """Texts that repeat over samples, as dictionary arrays of shape (rows,)."""

    message_id: pa.DictionaryArray
    device_no: pa.DictionaryArray
    vehicle_id: pa.DictionaryArray
    vehicle: np.ndarray

    @classmethod
    def of(cls, uploads: Uploads, bindings: Bindings, change: np.ndarray) -> _Keys:
        vehicle = bindings.vehicle_of(change)
        codes, indices = np.unique(vehicle, return_inverse=True)
        bound = codes >= 0
        shift = int((~bound).sum())
        texts = bindings.vehicles.take(pa.array(codes[bound]))
        slots = pa.array((indices - shift).astype(np.int32), mask=vehicle < 0)
        return cls(
            _message_ids(uploads),
            spread(uploads.head.column("device_no"), uploads.upload),
            pa.DictionaryArray.from_arrays(slots, texts),
            vehicle,
        )


def _message_ids(uploads: Uploads) -> pa.DictionaryArray:
    texts = uploads.head.column("message_id")
    if uploads.message_type in REPORT_TYPES:
        return pa.DictionaryArray.from_arrays(pa.array(uploads.upload), texts)
    return spread(texts, uploads.upload)


def spread(texts: pa.Array, upload: np.ndarray) -> pa.DictionaryArray:
    """A text column of the head, repeated for each sample: a dictionary array of shape (rows,);
    `upload` is the head row of each sample."""
    encoded = texts.dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        encoded.indices.take(pa.array(upload)), encoded.dictionary
    )


def _codes(codes: np.ndarray, texts: tuple[str, ...]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(texts))


def _telemetry(
    prepared: Prepared, dated: _Dated, bindings: Bindings, change: np.ndarray, keys: _Keys
) -> pa.RecordBatch:
    uploads = prepared.uploads
    head, rows, upload = uploads.head, uploads.rows, uploads.upload
    at = pa.array(upload)
    status = np.zeros(len(upload), np.int32)
    status[keys.vehicle == UNBOUND] = STATUS.index("UNBOUND")
    status[keys.vehicle == AMBIGUOUS] = STATUS.index("AMBIGUOUS")
    columns: dict[str, pa.Array] = {
        "message_id": keys.message_id
        if uploads.message_type not in REPORT_TYPES
        else head.column("message_id"),
        "sample_idx": pa.array(prepared.sample_idx),
        "device_no": keys.device_no,
        "vehicle_id": keys.vehicle_id,
        "event_time": pa.array(dated.event_ms).cast(pa.timestamp("ms")).cast(UTC_MS),
        "time_source": _codes(dated.source, SOURCES),
        "quality_flags": to_list_array(dated.flags),
        "binding_status": _codes(status, STATUS),
        "binding_version": pa.array(bindings.version_of(change), mask=status != 0),
        "extras": _merged_extras(head.column("extras"), rows.column("extras"), upload),
        "device_time": rows.column("device_time"),
    }
    for name in ("topic", "object", "device_gen", "firmware_version"):
        columns[name] = spread(head.column(name), upload)
    for name in ("partition", "offset", "line", "boot_count", "seq", "uptime_s", "received_time"):
        columns[name] = head.column(name).take(at)
    for field in payload_fields(uploads.message_type):
        columns[field.name] = rows.column(field.name)
    schema = rows_schema(uploads.message_type)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


REPEATED = frozenset(
    (
        *("message_id", "device_no", "vehicle_id", "time_source", "binding_status"),
        *("topic", "object", "device_gen", "firmware_version"),
    )
)


@functools.cache
def rows_schema(message_type: str) -> pa.Schema:
    """`telemetry_schema`, with texts that repeat over samples as dictionary arrays."""
    texts = pa.dictionary(pa.int32(), pa.string())
    repeated = REPEATED - {"message_id"} if message_type in REPORT_TYPES else REPEATED
    return pa.schema(
        [f.with_type(texts) if f.name in repeated else f for f in telemetry_schema(message_type)]
    )


def _merged_extras(head: pa.Array, rows: pa.Array, upload: np.ndarray) -> pa.Array:
    """Unknown fields of the upload and of the sample together; null where there are none."""
    if head.null_count == len(head):
        return rows
    of_upload = head.take(pa.array(upload))
    if rows.null_count == len(rows):
        return of_upload
    pairs = zip(of_upload.to_pylist(), rows.to_pylist(), strict=True)
    return pa.array([sorted((a or []) + (b or [])) or None for a, b in pairs], EXTRAS)


def _counted(prepared: Prepared, ruled: _Ruled, dated: _Dated, keys: _Keys) -> Counted:
    uploads = prepared.uploads
    upload, vehicle = uploads.upload, keys.vehicle
    step_m = _within_one_vehicle(prepared, dated.flags, vehicle)
    rows = replace_columns(uploads.rows, {"flags": pa.array(dated.flags)})
    ignition = np.full(len(upload), -1, np.int8)
    if uploads.message_type == "log":
        reported = filled_int64(rows.column("ignition_on"), -1).astype(np.int8)
        debounced = ruled.ignition[upload]
        ignition = np.where(debounced >= 0, debounced, reported)
    feeds = dated.feeds & (vehicle >= 0)
    if feeds.all():
        return Counted(
            uploads.message_type,
            rows,
            upload,
            dated.event_ms,
            step_m,
            ignition,
            keys.message_id,
            keys.device_no,
            keys.vehicle_id,
        )
    mask = pa.array(feeds)
    return Counted(
        uploads.message_type,
        rows.filter(mask),
        upload[feeds],
        dated.event_ms[feeds],
        step_m[feeds],
        ignition[feeds],
        keys.message_id.filter(mask),
        keys.device_no.filter(mask),
        keys.vehicle_id.filter(mask),
    )


def _within_one_vehicle(prepared: Prepared, flags: np.ndarray, vehicle: np.ndarray) -> np.ndarray:
    """`step_m` without the steps from a position in one vehicle to one in another."""
    uploads, step_m = prepared.uploads, prepared.step_m
    upload = uploads.upload
    if not ((upload[1:] == upload[:-1]) & (vehicle[1:] != vehicle[:-1])).any():
        return step_m
    if uploads.message_type != "gps":
        return step_m
    located = ~np.isnan(floats(uploads.rows.column("lat_deg")))
    accepted = np.flatnonzero(located & ((flags & BIT["GPS_JUMP"]) == 0))
    crossed = accepted[1:][vehicle[accepted][1:] != vehicle[accepted][:-1]]
    cleared = step_m.copy()
    cleared[crossed] = 0
    return cleared
