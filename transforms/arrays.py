"""Small helpers between Arrow and numpy that several stages share."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NO_TIME = np.iinfo(np.int64).min


def single(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array, whatever its chunks."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    if column.num_chunks == 0:
        return pa.array([], column.type)
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def filled_int64(column: pa.Array | pa.ChunkedArray, fill: int) -> np.ndarray:
    """An integer, boolean or timestamp column as int64, nulls replaced."""
    numbers = single(column).cast(pa.int64())
    return np.asarray(numbers.fill_null(fill) if numbers.null_count else numbers)


def floats(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A numeric column as float64, NaN where null."""
    return np.asarray(single(column).to_numpy(zero_copy_only=False), np.float64)


def ranks(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """int64 of shape (rows,): the rank of each text among the different ones."""
    encoded = single(column).dictionary_encode()
    order = np.asarray(pc.sort_indices(encoded.dictionary))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[np.asarray(encoded.indices)]
