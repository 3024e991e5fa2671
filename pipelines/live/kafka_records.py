"""Kafka records between the Java side and the core: as raw batches, and on their way out."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.live.flink.arrow_blocks import read_block
from schemas.layouts import layout
from transforms.model.raw_messages import SCHEMA as RAW

DEVICE_RECORD = layout("device_record")
OUT_RECORD = layout("out_record")
NO_RECORDS = pa.RecordBatch.from_pylist([], schema=OUT_RECORD)


def raw_batch(block: bytes) -> tuple[pa.RecordBatch, pa.BinaryArray]:
    """The records of a block as a raw batch whose `line` is the row in it, and their headers as
    the Java side packed them."""
    records = read_block(block, DEVICE_RECORD)
    count = records.num_rows
    columns = {name: records.column(name) for name in records.schema.names}
    headers = columns["headers"]
    columns |= {
        "line": pa.array(np.arange(count, dtype=np.int64)),
        "timestamp": columns["timestamp"]
        .cast(pa.timestamp("ms"))
        .cast(RAW.field("timestamp").type),
        "size": pc.binary_length(columns["value"]).cast(pa.int64()),
        "is_line": pa.repeat(pa.scalar(False), count),
        "headers": _unpacked(headers),
    }
    arrays = [columns[f.name] if f.name in columns else pa.nulls(count, f.type) for f in RAW]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW), headers


def _unpacked(packed: pa.BinaryArray) -> pa.MapArray:
    kind = RAW.field("headers").type
    if packed.null_count == len(packed):
        return pa.nulls(len(packed), kind)
    return pa.array(
        [None if one is None else unpack_headers(one) for one in packed.to_pylist()], kind
    )


def unpack_headers(packed: bytes) -> list[tuple[str, bytes | None]]:
    """Name and value of headers that stand one after another, each behind its int32 length."""
    found, at = [], 0
    while at < len(packed):
        (size,) = struct.unpack_from("<i", packed, at)
        name = packed[at + 4 : at + 4 + size].decode("utf-8", "replace")
        at += 4 + size
        (size,) = struct.unpack_from("<i", packed, at)
        value = None if size < 0 else packed[at + 4 : at + 4 + size]
        at += 4 + max(size, 0)
        found.append((name, value))
    return found


def pack_headers(headers: list[tuple[str, bytes | None]]) -> bytes:
    """The same the other way."""
    parts = []
    for name, value in headers:
        text = name.encode()
        size = -1 if value is None else len(value)
        parts += [struct.pack("<i", len(text)), text, struct.pack("<i", size), value or b""]
    return b"".join(parts)


def out_records(
    topic: str, timestamp: pa.Array, key: pa.Array, value: pa.Array, headers: pa.Array | None = None
) -> pa.RecordBatch:
    """Records to write to one topic (`OUT_RECORD`); without `headers` they have none."""
    count = len(key)
    if headers is None:
        headers = pa.nulls(count, pa.binary())
    columns = [pa.repeat(pa.scalar(topic), count), timestamp, key, value, headers]
    return pa.RecordBatch.from_arrays(columns, schema=OUT_RECORD)


def copies(raw: pa.RecordBatch, rows: np.ndarray, topic: str, why: str) -> pa.RecordBatch:
    """Records `rows` as they came, for another topic; headers say their place and `why`."""
    if not len(rows):
        return NO_RECORDS
    taken = raw.take(pa.array(rows))
    headers = []
    for row in taken.select(["topic", "partition", "offset", "headers"]).to_pylist():
        place = f"{row['topic']}+{row['partition']}+{row['offset']}".encode()
        ours = [("odograph.place", place), ("odograph.why", why.encode())]
        headers.append(pack_headers([*(row["headers"] or []), *ours]))
    return out_records(
        topic,
        taken.column("timestamp").cast(pa.int64()),
        taken.column("key"),
        taken.column("value"),
        pa.array(headers, pa.binary()),
    )
