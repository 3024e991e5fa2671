"""Raw batches: exact bytes of messages and where they came from, before any check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas.arrow import UTC_MS

SCHEMA = pa.schema(
    [
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("object", pa.string()),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("arrival_hour", UTC_MS),
        pa.field("timestamp", UTC_MS),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("size", pa.int64()),
        pa.field("is_line", pa.bool_(), nullable=False),
        pa.field("headers", pa.map_(pa.string(), pa.binary())),
    ]
)
"""`value` of a row that `is_line` may end with the line's terminator, which is no part of the
message. `offset`, `timestamp` and `key` are null where the archive did not keep them,
`arrival_hour` where no folder is named by it. `size` is null, but for a message of which `value`
holds only the beginning: then the size of the whole, in bytes."""


@dataclass(frozen=True)
class Source:
    """Where a batch of lines comes from; `arrival_hour_ms` is the start of the hour, epoch ms."""

    topic: str
    partition: int
    object: str | None
    arrival_hour_ms: int | None


def constant(value: object, count: int, kind: pa.DataType) -> pa.Array:
    """`count` times `value`, without a Python loop."""
    if value is None:
        return pa.nulls(count, kind)
    return pa.repeat(pa.scalar(value, kind), count)


def from_lines(
    values: pa.Array, source: Source, first_line: int = 0, is_line: bool = True
) -> pa.RecordBatch:
    """A raw batch of the lines (or records) of one archive object, in order."""
    count = len(values)
    columns = [
        constant(source.topic, count, pa.string()),
        constant(source.partition, count, pa.int32()),
        pa.nulls(count, pa.int64()),
        constant(source.object, count, pa.string()),
        pa.array(np.arange(first_line, first_line + count, dtype=np.int64)),
        constant(source.arrival_hour_ms, count, UTC_MS),
        pa.nulls(count, UTC_MS),
        pa.nulls(count, pa.binary()),
        values,
        pa.nulls(count, pa.int64()),
        constant(is_line, count, pa.bool_()),
        pa.nulls(count, SCHEMA.field("headers").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def split_lines(block: bytes | pa.Buffer) -> pa.BinaryArray:
    """The lines of `block`, each with its terminator, without copying the block."""
    buffer = pa.py_buffer(block)
    data = np.frombuffer(buffer, np.uint8)
    ends = np.flatnonzero(data == 10) + 1
    if len(data) and (not len(ends) or ends[-1] != len(data)):
        ends = np.append(ends, len(data))
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends
    return pa.Array.from_buffers(pa.binary(), len(ends), [None, pa.py_buffer(offsets), buffer])


def message_bytes(value: bytes | None, is_line: bool) -> bytes:
    """The message without the terminator of a line; a null record (tombstone) is empty."""
    if value is None:
        return b""
    if is_line and value.endswith(b"\r\n"):
        return value[:-2]
    return value[:-1] if is_line and value.endswith(b"\n") else value


def message_at(batch: pa.RecordBatch, row: int) -> bytes:
    """The exact message in a row of a raw batch."""
    return message_bytes(batch.column("value")[row].as_py(), batch.column("is_line")[row].as_py())


def concat(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """One batch out of several of the same schema; at least one is needed."""
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches).combine_chunks()
    return (
        table.to_batches(max_chunksize=max(table.num_rows, 1))[0] if table.num_rows else batches[0]
    )
