"""Between Arrow columns and numpy arrays: helpers that several stages share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NO_TIME = np.iinfo(np.int64).min
"""Stands in int64 arrays of times where there is none."""


def single(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array, whether chunked or not."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    if column.num_chunks == 0:
        return pa.array([], column.type)
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def plain_texts(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column of texts, maybe dictionary-encoded, as one plain array."""
    texts = single(column)
    return texts.cast(pa.string()) if pa.types.is_dictionary(texts.type) else texts


def filled_int64(column: pa.Array | pa.ChunkedArray, fill: int) -> np.ndarray:
    """An integer, boolean or timestamp column as int64 of shape (rows,); nulls become `fill`."""
    numbers = single(column).cast(pa.int64())
    return np.asarray(numbers.fill_null(fill) if numbers.null_count else numbers)


def floats(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A numeric column as float64 of shape (rows,), NaN where null."""
    return np.asarray(single(column).to_numpy(zero_copy_only=False), np.float64)


def ranks(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """int64 of shape (rows,): the rank of each text among the different ones."""
    encoded = single(column).dictionary_encode()
    order = np.asarray(pc.sort_indices(encoded.dictionary))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return np.asarray(rank[np.asarray(encoded.indices)])


def codes(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """int64 of shape (rows,), equal for equal texts; their order means nothing."""
    return np.asarray(single(column).dictionary_encode().indices).astype(np.int64)


def sort_rows(rows: np.ndarray, keys: tuple[np.ndarray, ...]) -> np.ndarray:
    """`rows` (int64 row numbers) sorted by `keys` (as in numpy.lexsort the last key comes first).

    Two steps, because that is faster: all rows by the last two keys, then by the others only the
    rows in which those two are equal.
    """
    return sort_with_ties(rows, keys[-2:], lambda tied: tuple(key[tied] for key in keys))


def sort_with_ties(
    rows: np.ndarray,
    keys: tuple[np.ndarray, ...],
    ties: Callable[[np.ndarray], tuple[np.ndarray, ...]],
) -> np.ndarray:
    """`rows` (int64 row numbers) sorted by two `keys` (the second comes first).

    `ties` gets the numbers of the rows in which both are equal, and returns all keys of those rows,
    in the order of `sort_rows`, each as long as what it got.
    """
    first, second = keys[1][rows], keys[0][rows]
    order = np.lexsort((second, first))
    rows, first, second = rows[order], first[order], second[order]
    same = (first[1:] == first[:-1]) & (second[1:] == second[:-1])
    if same.any():
        tied = np.zeros(len(rows), bool)
        tied[1:] |= same
        tied[:-1] |= same
        at = np.flatnonzero(tied)
        rows[at] = rows[at][np.lexsort(ties(rows[at]))]
    return rows


def identities(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """int64 codes of shape (rows,), equal for equal texts only, and the texts' `prefixes`.

    Texts are compared whole only where their first eight bytes are equal.
    """
    texts = single(column)
    first, second = prefixes(texts)
    order = np.argsort(first, kind="stable")
    same = first[order][1:] == first[order][:-1]
    alike = np.zeros(len(texts), bool)
    alike[order[1:]] |= same
    alike[order[:-1]] |= same
    text_codes = np.arange(len(texts), dtype=np.int64)
    if alike.any():
        at = np.flatnonzero(alike)
        text_codes[at] = codes(texts.take(pa.array(at))) + len(texts)
    return text_codes, (second, first)


def prefixes(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The first and second eight bytes of each text as uint64 that sort as the texts do."""
    texts = single(column)
    lengths = pc.min_max(pc.binary_length(texts)).as_py()
    if not texts.null_count and lengths["min"] == lengths["max"] and (lengths["max"] or 0) >= 16:
        width = lengths["max"]
        data = np.frombuffer(texts.buffers()[2], np.uint8)[: (texts.offset + len(texts)) * width]
        rows = data.reshape(-1, width)[texts.offset :, :16]
    else:
        padded = np.array([(text or "").encode()[:16] for text in texts.to_pylist()], "S16")
        rows = padded.view(np.uint8).reshape(-1, 16)
    words = np.ascontiguousarray(rows).view(">u8").astype(np.uint64)
    return words[:, 0], words[:, 1]
