"""Upload summaries: one small row an upload, with all that rules across uploads need.

The lake keeps them (`_state/register`), so that a later run over other objects judges with the same
knowledge as one run over everything.
"""

from __future__ import annotations

import zlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import MESSAGE_TYPES
from transforms.model.arrow_numpy import NO_TIME, filled_int64
from transforms.model.uploads import Uploads, latest_device_time

SCHEMA = pa.schema(
    [
        pa.field("device_no", pa.string(), nullable=False),
        pa.field("message_id", pa.string(), nullable=False),
        pa.field("message_type", pa.int8(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("received_ms", pa.int64(), nullable=False),
        pa.field("latest_ms", pa.int64(), nullable=False),
        pa.field("boot_count", pa.int32()),
        pa.field("seq", pa.int64()),
        pa.field("uptime_s", pa.int64()),
        pa.field("samples", pa.int32(), nullable=False),
        pa.field("filled", pa.int32(), nullable=False),
        pa.field("content", pa.uint64(), nullable=False),
        pa.field("odometer_m", pa.int64()),
        pa.field("ignition_on", pa.bool_()),
    ]
)
"""`message_type`: an index into `MESSAGE_TYPES`; `received_ms`: receive time, epoch ms;
`latest_ms`: greatest device time, epoch ms, NO_TIME without any; `filled`: how many fields are not
null; `content`: a hash of all decoded values but the receive time."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def summarize(uploads: Uploads) -> pa.RecordBatch:
    """Upload summaries (`SCHEMA`) of decoded, unrolled and assessed uploads, one a head row, in the
    order of the head."""
    head, rows, starts = uploads.head, uploads.rows, uploads.starts
    count = len(uploads)
    filled, content = _fingerprint(uploads)
    is_log = uploads.message_type == "log"
    first = pa.array(starts[:-1])
    columns = {
        "device_no": head.column("device_no"),
        "message_id": head.column("message_id"),
        "message_type": pa.repeat(
            pa.scalar(MESSAGE_TYPES.index(uploads.message_type), pa.int8()), count
        ),
        "line": head.column("line"),
        "received_ms": head.column("received_time").cast(pa.int64()),
        "latest_ms": pa.array(latest_device_time(uploads)),
        "boot_count": head.column("boot_count"),
        "seq": head.column("seq"),
        "uptime_s": head.column("uptime_s"),
        "samples": pa.array(np.diff(starts).astype(np.int32)),
        "filled": pa.array(filled),
        "content": pa.array(content),
        "odometer_m": rows.column("odometer_m").take(first)
        if is_log
        else pa.nulls(count, pa.int64()),
        "ignition_on": rows.column("ignition_on").take(first)
        if is_log
        else pa.nulls(count, pa.bool_()),
    }
    return pa.RecordBatch.from_arrays([columns[n] for n in SCHEMA.names], schema=SCHEMA)


def bucket_of(device_no: pa.Array, buckets: int) -> np.ndarray:
    """int64 of shape (rows,): the bucket of each terminal, 0 to `buckets` - 1; the same in every
    run and process."""
    encoded = device_no.dictionary_encode()
    codes = [zlib.crc32(text.encode()) % buckets for text in encoded.dictionary.to_pylist()]
    return np.asarray(np.array(codes, np.int64)[np.asarray(encoded.indices)])


def _fingerprint(uploads: Uploads) -> tuple[np.ndarray, np.ndarray]:
    """int32 filled fields and uint64 content hash of shape (uploads,)."""
    rows, starts = uploads.rows, uploads.starts[:-1]
    mixed = np.zeros(rows.num_rows, np.uint64)
    filled = np.diff(uploads.starts).astype(np.int32)
    filled = filled * (rows.num_columns - rows.schema.get_field_index("device_time"))
    for name in rows.schema.names[2:]:
        column = rows.column(name)
        mixed = mixed * _MULTIPLIER + _bits(column)
        if column.null_count and name != "extras":
            missing = np.add.reduceat(np.asarray(column.is_null(), np.int32), starts)
            filled -= missing.astype(np.int32)
    position = np.arange(rows.num_rows, dtype=np.uint64) - np.repeat(
        starts.astype(np.uint64), np.diff(uploads.starts)
    )
    mixed ^= mixed >> np.uint64(29)
    mixed *= position * np.uint64(2) + np.uint64(1)
    content = np.add.reduceat(mixed, starts) if len(starts) else mixed
    for name in ("firmware_version", "uptime_s", "extras"):
        column = uploads.head.column(name)
        content = content * _MULTIPLIER + _bits(column)
        filled += np.asarray(column.is_valid(), np.int32)
    return filled, content


def _bits(column: pa.Array) -> np.ndarray:
    """uint64 of shape (rows,), equal for equal values; null has a value of its own."""
    kind = column.type
    if column.null_count == len(column) > 1:
        return _bits(column.slice(0, 1))
    if pa.types.is_floating(kind):
        numbers = column.fill_null(float("nan")) if column.null_count else column
        width = np.uint32 if kind == pa.float32() else np.uint64
        return np.asarray(numbers).view(width)
    if pa.types.is_string(kind):
        encoded = column.dictionary_encode()
        hashes = [zlib.crc32(text.encode()) for text in encoded.dictionary.to_pylist()]
        table = np.array([*hashes, 1], np.uint64)
        return np.asarray(table[filled_int64(encoded.indices, len(hashes))])
    if pa.types.is_list(kind):
        return _list_bits(column)
    if pa.types.is_nested(kind):
        texts = (repr(value).encode() for value in column.to_pylist())
        return np.fromiter((zlib.crc32(text) for text in texts), np.uint64, len(column))
    return filled_int64(column, NO_TIME).view(np.uint64)


def _list_bits(column: pa.ListArray) -> np.ndarray:
    lengths = np.asarray(pc.list_value_length(column).fill_null(0), np.int64)
    bits = lengths.astype(np.uint64)
    filled = np.flatnonzero(lengths)
    if len(filled):
        starts = np.cumsum(lengths) - lengths
        position = np.arange(lengths.sum()) - np.repeat(starts, lengths)
        mixed = _bits(column.flatten()) * _MULTIPLIER
        mixed ^= mixed >> np.uint64(31)
        mixed *= position.astype(np.uint64) * np.uint64(2) + np.uint64(1)
        bits[filled] += np.add.reduceat(mixed, starts[filled])
    return bits
