"""Record batches as the Java side of a job writes and reads them.

A block is a row count and each column's Arrow buffers, padded to 8 bytes: reading one copies
nothing. A stage output is what a stage returns: blocks, each for one of its outputs.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa


def read_block(block: bytes, columns: pa.Schema) -> pa.RecordBatch:
    """The batch of a block, on the block's own memory."""
    buffer = pa.py_buffer(block)
    count = int(np.frombuffer(block, np.int64, 1)[0])
    at = 8
    arrays = []
    for field in columns:
        buffers: list[pa.Buffer | None] = [None]
        if field.nullable:
            size = (count + 7) >> 3
            buffers[0] = buffer.slice(at, size)
            at += _padded(size)
        if field.type in (pa.string(), pa.binary()):
            size = 4 * (count + 1)
            buffers.append(buffer.slice(at, size))
            end = int(np.frombuffer(block, np.int32, 1, at + 4 * count)[0])
            at += _padded(size)
        else:
            end = count * (field.type.bit_width // 8)
        buffers.append(buffer.slice(at, end))
        at += _padded(end)
        arrays.append(pa.Array.from_buffers(field.type, count, buffers))
    return pa.RecordBatch.from_arrays(arrays, schema=columns)


def stage_output(outputs: Iterable[tuple[int, pa.RecordBatch]]) -> bytes:
    """Batches for numbered outputs, in order; empty ones are left out."""
    parts: list[bytes | memoryview] = []
    for number, batch in outputs:
        if not batch.num_rows:
            continue
        block = _block(batch)
        size = sum(len(part) for part in block)
        parts.append(np.array([number, size], np.int32).tobytes())
        parts += block
    return b"".join(parts)


def _block(batch: pa.RecordBatch) -> list[bytes]:
    parts = [np.array([batch.num_rows], np.int64).tobytes()]
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if field.nullable:
            valid = np.asarray(column.is_valid())
            parts += _aligned(np.packbits(valid, bitorder="little").tobytes())
        elif column.null_count:
            raise ValueError(f"column {field.name} of a stage's output must not hold nulls")
        if field.type in (pa.string(), pa.binary()):
            ends = np.frombuffer(column.buffers()[1], np.int32)
            ends = ends[column.offset : column.offset + len(column) + 1]
            parts += _aligned((ends - ends[0]).tobytes())
            data = column.buffers()[2]
            text = b"" if data is None else data.slice(int(ends[0]), int(ends[-1] - ends[0]))
            parts += _aligned(bytes(text))
        else:
            width = field.type.bit_width // 8
            values = column.buffers()[1]
            start = column.offset * width
            parts += _aligned(values.slice(start, len(column) * width).to_pybytes())
    return parts


def _aligned(data: bytes) -> list[bytes]:
    return [data, b"\0" * (-len(data) % 8)]


def _padded(size: int) -> int:
    return (size + 7) & ~7
