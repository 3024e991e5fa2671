"""Decoded uploads of one message type: one head row for each upload, one row for each sample."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.arrow import SOURCE, UTC_MS, payload_schema
from transforms.model.arrow_numpy import NO_TIME, filled_int64
from transforms.model.raw_messages import message_at

EXTRAS = pa.map_(pa.string(), pa.string())

HEAD = pa.schema(
    [
        *SOURCE,
        pa.field("message_id", pa.string(), nullable=False),
        pa.field("device_no", pa.string(), nullable=False),
        pa.field("device_gen", pa.string(), nullable=False),
        pa.field("firmware_version", pa.string()),
        pa.field("boot_count", pa.int32()),
        pa.field("seq", pa.int64()),
        pa.field("uptime_s", pa.int64()),
        pa.field("received_time", UTC_MS),
        pa.field("extras", EXTRAS),
        pa.field("flags", pa.int64(), nullable=False),
    ]
)
"""`received_time` is null until `settle_received_time`; `flags` are those of the whole upload."""


@functools.cache
def rows_schema(message_type: str) -> pa.Schema:
    """Schema of `Uploads.rows`: index of the head row, flags, extras, then the payload."""
    return pa.schema(
        [
            pa.field("upload", pa.int32(), nullable=False),
            pa.field("flags", pa.int64(), nullable=False),
            pa.field("extras", EXTRAS),
            *(field.with_nullable(True) for field in payload_schema(message_type)),
        ]
    )


@dataclass(frozen=True)
class Uploads:
    """`head` (schema `HEAD`) has a row an upload, `rows` (`rows_schema`) a row a sample.
    `rows.upload` is the index of the sample's head row; it ascends, and no head row is without
    a sample."""

    message_type: str
    head: pa.RecordBatch
    rows: pa.RecordBatch

    def __len__(self) -> int:
        return int(self.head.num_rows)

    @property
    def upload(self) -> np.ndarray:
        """int32 of shape (rows,): the head row of each sample."""
        return np.asarray(self.rows.column("upload"))

    @property
    def starts(self) -> np.ndarray:
        """int64 of shape (uploads + 1,): where each upload's rows begin, and the end."""
        return np.searchsorted(self.upload, np.arange(len(self) + 1, dtype=np.int32))

    def keep(self, wanted: np.ndarray) -> Uploads:
        """Only the uploads for which `wanted` (bool, shape (uploads,)) is true."""
        renumbered = (np.cumsum(wanted) - 1).astype(np.int32)
        rows = self.rows.filter(pa.array(wanted[self.upload]))
        columns = [pa.array(renumbered[np.asarray(rows.column(0))]), *rows.columns[1:]]
        kept = pa.RecordBatch.from_arrays(columns, schema=rows.schema)
        return Uploads(self.message_type, self.head.filter(pa.array(wanted)), kept)


def replace_columns(batch: pa.RecordBatch, columns: dict[str, pa.Array]) -> pa.RecordBatch:
    """`batch` with some columns exchanged; the schema stays."""
    arrays = [columns.get(name, batch.column(name)) for name in batch.schema.names]
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def concat_uploads(parts: Sequence[Uploads]) -> Uploads:
    """One `Uploads` out of several of the same type."""
    if len(parts) == 1:
        return parts[0]
    heads = pa.Table.from_batches([part.head for part in parts]).combine_chunks()
    shifts = np.cumsum([0, *(len(part) for part in parts)])
    rows = []
    for part, shift in zip(parts, shifts[:-1], strict=True):
        shifted = pa.array((part.upload + shift).astype(np.int32))
        rows.append(replace_columns(part.rows, {"upload": shifted}))
    table = pa.Table.from_batches(rows).combine_chunks()
    return Uploads(parts[0].message_type, heads.to_batches()[0], table.to_batches()[0])


def normal_device_nos(texts: pa.Array) -> pa.Array:
    """Terminal numbers as they are keyed: trimmed, upper case (M26)."""
    return pc.utf8_upper(pc.utf8_trim_whitespace(texts))


def normal_device_no(text: str) -> str:
    """A terminal number as it is keyed: trimmed, upper case (M26)."""
    return str(normal_device_nos(pa.array([text], pa.string()))[0].as_py())


def message_ids(
    device_no: pa.Array,
    message_type: str,
    boot_count: pa.Array,
    seq: pa.Array,
    raw: pa.RecordBatch,
) -> pa.Array:
    """Message ids of shape (uploads,): the first 128 bits, in hex, of sha256 of
    `device_no|type|boot_count|seq`; of `device_no|type|payload bytes` where boot_count or seq is
    null. `raw` holds the raw row of each upload."""
    texts = pc.binary_join_element_wise(
        device_no, message_type, boot_count.cast(pa.string()), seq.cast(pa.string()), "|"
    ).cast(pa.binary())
    if texts.null_count:
        devices, keys = device_no.to_pylist(), texts.to_pylist()
        for row in np.flatnonzero(np.asarray(texts.is_null())):
            prefix = f"{devices[row]}|{message_type}|".encode()
            keys[row] = prefix + message_at(raw, int(row))
    else:
        keys = texts.to_pylist()
    sha256 = hashlib.sha256
    return pa.array([sha256(key).hexdigest()[:32] for key in keys], pa.string())


def latest_device_time(uploads: Uploads) -> np.ndarray:
    """int64 epoch ms of shape (uploads,): the greatest device time, NO_TIME where there is none."""
    times = filled_int64(uploads.rows.column("device_time"), NO_TIME)
    return np.maximum.reduceat(times, uploads.starts[:-1]) if len(times) else times


def settle_received_time(uploads: Uploads, raw: pa.RecordBatch, bits: int) -> Uploads:
    """Fill in a missing receive time: the Kafka timestamp, else the latest device time clamped
    into the arrival hour, else the latest device time; estimated ones are flagged `bits`.

    `raw` holds the raw row of each head row. Uploads left without any time keep null.
    """
    received = uploads.head.column("received_time")
    if not received.null_count:
        return uploads
    received = pc.coalesce(received, raw.column("timestamp"))
    estimated = np.asarray(received.is_null())
    if estimated.any():
        latest = latest_device_time(uploads)
        hour = filled_int64(raw.column("arrival_hour"), NO_TIME)
        unknown = (hour == NO_TIME) | (latest == NO_TIME)
        clamped = np.where(unknown, latest, np.clip(latest, hour, hour + 3_599_999))
        guess = pa.array(clamped, mask=clamped == NO_TIME).cast(pa.timestamp("ms")).cast(UTC_MS)
        received = pc.coalesce(received, guess)
    flags = np.asarray(uploads.head.column("flags")) | np.where(estimated, bits, 0)
    head = replace_columns(
        uploads.head, {"received_time": received, "flags": pa.array(flags, pa.int64())}
    )
    return Uploads(uploads.message_type, head, uploads.rows)
