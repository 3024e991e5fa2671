"""Arrow columns as arrays of Postgres in its binary form, without a Python object a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import pq
from psycopg.adapt import Dumper

_EPOCH_US = 946_684_800_000_000
_TEXT, _TIMESTAMPTZ = (25, 1009), (1184, 1185)
_NUMBERS = {
    pa.bool_(): (16, 1000, "u1"),
    pa.int32(): (23, 1007, ">i4"),
    pa.int64(): (20, 1016, ">i8"),
    pa.float32(): (700, 1021, ">f4"),
    pa.float64(): (701, 1022, ">f8"),
}


@dataclass(frozen=True)
class PostgresArray:
    """The bytes of an array of one dimension; `oid` is its type's."""

    oid: int
    data: bytes


class _ArrayDumper(Dumper):
    """Hands the bytes on; each type of array is a parameter type of its own."""

    format = pq.Format.BINARY

    def get_key(self, obj: PostgresArray, format: Any) -> Any:
        return self.cls, obj.oid

    def upgrade(self, obj: PostgresArray, format: Any) -> Dumper:
        typed = _ArrayDumper(self.cls)
        typed.oid = obj.oid
        return typed

    def dump(self, obj: PostgresArray) -> bytes:
        return obj.data


def takes_arrays(connection: psycopg.Connection[Any]) -> None:
    """Let statements of a connection have `PostgresArray` as parameters."""
    connection.adapters.register_dumper(PostgresArray, _ArrayDumper)


def postgres_array(column: pa.Array) -> PostgresArray:
    """A column of texts, numbers, booleans or timestamps."""
    if pa.types.is_string(column.type):
        (oid, array), values = _TEXT, _texts(column)
    elif pa.types.is_timestamp(column.type):
        oid, array = _TIMESTAMPTZ
        values = _fixed(column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()), ">i8", _EPOCH_US)
    else:
        oid, array, form = _NUMBERS[column.type]
        values = _fixed(column, form)
    head = np.array([1, int(column.null_count > 0), oid, len(column), 1], ">i4")
    return PostgresArray(array, head.tobytes() + values)


def _fixed(column: pa.Array, form: str, epoch: int = 0) -> bytes:
    """Each value behind its length, a null being the length -1."""
    filled = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
    numbers = filled.to_numpy(zero_copy_only=False)
    if epoch:
        numbers = numbers - epoch
    size = np.dtype(form).itemsize
    out = np.empty((len(column), 4 + size), np.uint8)
    out[:, :4] = _lengths(np.array([size]))
    out[:, 4:] = np.ascontiguousarray(numbers.astype(form)).view(np.uint8).reshape(-1, size)
    if not column.null_count:
        return out.tobytes()
    null = np.asarray(column.is_null())
    out[null, :4] = 255
    kept = np.ones(out.shape, bool)
    kept[null, 4:] = False
    return out[kept].tobytes()


def _texts(column: pa.Array) -> bytes:
    lengths = _lengths(np.asarray(pc.binary_length(column).fill_null(-1)))
    heads = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(4), len(column), [None, pa.py_buffer(lengths.tobytes())]
    )
    texts = column.cast(pa.binary()).fill_null(b"")
    joined = pc.binary_join_element_wise(heads.cast(pa.binary()), texts, b"")
    _, offsets, data = joined.buffers()
    end = int(np.frombuffer(offsets, np.int32)[joined.offset + len(joined)])
    return bytes(data.slice(0, end).to_pybytes())


def _lengths(numbers: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(numbers.astype(">i4")).view(np.uint8).reshape(-1, 4)
