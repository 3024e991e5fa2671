"""STS JSON to uploads; messages that are not plain go one at a time to `repair`."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import REPORT_TYPES, payload_fields
from schemas.arrow import UTC_MS, sts_schema
from transforms.decode.coerce import LATEST_MS
from transforms.decode.json_lines import children, one_batch, parse_lines, suspicious_lines
from transforms.decode.json_times import stamps_ms
from transforms.model.arrow_numpy import NO_TIME
from transforms.model.thresholds import Bounds
from transforms.model.uploads import (
    EXTRAS,
    HEAD,
    Uploads,
    message_ids,
    normal_device_nos,
    rows_schema,
)


@dataclass(frozen=True)
class Parsed:
    """Natively decoded uploads (None without any) with their raw rows; `repair` is bool of shape
    (rows,): raw rows that need repair."""

    uploads: Uploads | None
    raw: pa.RecordBatch
    repair: np.ndarray


def decode_json(raw: pa.RecordBatch, message_type: str, bounds: Bounds) -> Parsed:
    """Decode the lines of `raw` that are well-formed STS uploads of `message_type`."""
    values = raw.column("value")
    repair = suspicious_lines(values, bounds)
    clean = np.flatnonzero(~repair)
    if len(clean) < len(values):
        values = values.take(pa.array(clean))
    table, refused = parse_lines(values, sts_schema(message_type))
    repair[clean[refused]] = True
    if table is None:
        return Parsed(None, raw.slice(0, 0), repair)
    kept = clean[~refused]
    batch = one_batch(table)
    received_ms = stamps_ms(batch.column("timestamp"))
    complete = _complete(batch, received_ms, message_type, bounds)
    if not complete.all():
        repair[kept[~complete]] = True
        kept, received_ms = kept[complete], received_ms[complete]
        batch = batch.filter(pa.array(complete))
    if not len(kept):
        return Parsed(None, raw.slice(0, 0), repair)
    chosen = raw if len(kept) == raw.num_rows else raw.take(pa.array(kept))
    return Parsed(to_uploads(batch, received_ms, chosen, message_type), chosen, repair)


def _complete(
    batch: pa.RecordBatch, received_ms: np.ndarray, message_type: str, bounds: Bounds
) -> np.ndarray:
    """bool of shape (rows,): whether the upload needs no repair."""
    good = pc.equal(batch.column("type"), message_type).fill_null(False)
    device = batch.column("device_no")
    blank = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(device)), 0)
    good = pc.and_(good, pc.invert(blank).fill_null(False))
    good = pc.and_(good, pc.less_equal(pc.binary_length(device), bounds.max_device_no_length))
    mask = np.array(good.fill_null(False).to_numpy(zero_copy_only=False))
    mask &= received_ms != NO_TIME
    if message_type in REPORT_TYPES:
        mask &= np.asarray(batch.column("d").is_valid())
        leaves = {"ts": batch.column("ts"), **children(batch.column("d"))}
        rows = np.arange(batch.num_rows)
    else:
        lengths = pc.list_value_length(batch.column("data")).fill_null(0).to_numpy()
        mask &= (lengths > 0) & (lengths <= bounds.max_samples)
        samples = batch.column("data").flatten()
        rows = np.repeat(np.arange(batch.num_rows), lengths)
        mask[rows[np.asarray(samples.is_null())]] = False
        leaves = children(samples)
    for position in _doubtful(leaves, message_type):
        mask[rows[position]] = False
    return mask


def _doubtful(leaves: dict[str, pa.Array], message_type: str) -> list[np.ndarray]:
    """Row numbers of values that parse but need repair: NaN, seconds in place of ms, unknown codes,
    lists with nulls."""
    doubtful = []
    for field in payload_fields(message_type):
        values = leaves.get(field.sts or "")
        if values is None or values.null_count == len(values):
            continue
        if field.codes is not None:
            extremes = pc.min_max(values).as_py()
            if extremes["min"] < 0 or extremes["max"] >= len(field.codes):
                numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
                doubtful.append(np.flatnonzero((numbers < 0) | (numbers >= len(field.codes))))
        elif field.name == "device_time":
            extremes = pc.min_max(values).as_py()
            if extremes["min"] < 10_000_000_000 or extremes["max"] > LATEST_MS:
                times = values.fill_null(LATEST_MS).to_numpy(zero_copy_only=False)
                odd = (times < 0) | (times > LATEST_MS)
                doubtful.append(np.flatnonzero(odd | ((times >= 10**9) & (times < 10**10))))
        elif pa.types.is_floating(values.type) and not np.isfinite(pc.sum(values).as_py()):
            numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
            doubtful.append(np.flatnonzero(~np.isfinite(numbers)))
        elif pa.types.is_list(values.type):
            doubtful.append(_with_odd_elements(values))
    return doubtful


def _with_odd_elements(lists: pa.ListArray) -> np.ndarray:
    """Row numbers of lists with an element that is null or no finite number."""
    elements = lists.flatten()
    odd = np.asarray(elements.is_null())
    if pa.types.is_floating(elements.type):
        odd |= ~np.isfinite(elements.fill_null(0).to_numpy(zero_copy_only=False))
    if not odd.any():
        return np.empty(0, np.int64)
    return np.unique(np.asarray(pc.list_parent_indices(lists))[odd])


def to_uploads(
    batch: pa.RecordBatch, received_ms: np.ndarray, raw: pa.RecordBatch, message_type: str
) -> Uploads:
    """Uploads of a parsed batch in which no row needs repair; `received_ms` are epoch ms."""
    device = normal_device_nos(batch.column("device_no"))
    boot, seq = batch.column("boot"), batch.column("seq")
    count = batch.num_rows
    head = {
        **{name: raw.column(name) for name in ("topic", "partition", "offset", "object", "line")},
        "message_id": message_ids(device, message_type, boot, seq, raw),
        "device_no": device,
        "device_gen": pa.repeat("STS", count),
        "firmware_version": batch.column("fw"),
        "boot_count": boot,
        "seq": seq,
        "uptime_s": batch.column("up"),
        "received_time": pa.array(received_ms).cast(pa.timestamp("ms")).cast(UTC_MS),
        "extras": pa.nulls(count, EXTRAS),
        "flags": pa.array(np.zeros(count, np.int64)),
    }
    if message_type in REPORT_TYPES:
        leaves = {"ts": batch.column("ts"), **children(batch.column("d"))}
        upload = np.arange(count, dtype=np.int32)
    else:
        data = batch.column("data")
        leaves = children(data.flatten())
        lengths = pc.list_value_length(data).to_numpy()
        upload = np.repeat(np.arange(count, dtype=np.int32), lengths)
    return Uploads(
        message_type,
        pa.RecordBatch.from_arrays([head[name] for name in HEAD.names], schema=HEAD),
        to_rows(leaves, upload, message_type),
    )


def to_rows(leaves: dict[str, pa.Array], upload: np.ndarray, message_type: str) -> pa.RecordBatch:
    """`Uploads.rows` out of columns by JSON key; `upload` is the head row of each sample."""
    schema = rows_schema(message_type)
    columns: list[pa.Array] = [
        pa.array(upload),
        pa.array(np.zeros(len(upload), np.int64)),
        pa.nulls(len(upload), EXTRAS),
    ]
    for field in payload_fields(message_type):
        values = leaves[field.sts or field.name]
        if field.codes is not None:
            values = _symbols(values, tuple(field.codes.values()))
        elif field.name == "device_time":
            values = values.cast(pa.timestamp("ms")).cast(UTC_MS)
        if field.default is not None and values.null_count:
            values = _with_default(values, field.default)
        columns.append(values.cast(schema.field(field.name).type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _with_default(values: pa.Array, default: object) -> pa.Array:
    if default == []:
        lengths = pc.list_value_length(values).fill_null(0).to_numpy()
        offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), values.flatten())
    return values.fill_null(default)


@functools.cache
def _symbol_array(symbols: tuple[str, ...]) -> pa.Array:
    return pa.array(symbols, pa.string())


def _symbols(codes: pa.Array, symbols: tuple[str, ...]) -> pa.Array:
    return pc.take(_symbol_array(symbols), codes)
