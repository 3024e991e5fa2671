"""Stage 2, unroll: samples in the order of their device time, each sample once (M03, M01)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from transforms.model.arrow_numpy import filled_int64
from transforms.model.uploads import Uploads

LAST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Unrolled:
    """`sample_idx` is int32 of shape (rows,), from 0 in each upload; `dropped` is int32 of shape
    (uploads,): how many identical samples were left out."""

    uploads: Uploads
    sample_idx: np.ndarray
    dropped: np.ndarray


def unroll(uploads: Uploads) -> Unrolled:
    """Sort each upload's samples by device time (stable; samples without one go last), drop
    identical samples, number the rest."""
    rows, upload = uploads.rows, uploads.upload
    times = filled_int64(rows.column("device_time"), LAST)
    same = upload[1:] == upload[:-1]
    if (same & (times[1:] < times[:-1])).any():
        order = np.lexsort((times, upload))
        rows, times = rows.take(pa.array(order)), times[order]
    dropped = np.zeros(len(uploads), np.int32)
    candidates = same & (times[1:] == times[:-1])
    if candidates.any():
        repeated = _repeated(rows, upload, times, candidates)
        if repeated.any():
            dropped = np.bincount(upload[repeated], minlength=len(uploads)).astype(np.int32)
            rows, upload = rows.filter(pa.array(~repeated)), upload[~repeated]
    result = Uploads(uploads.message_type, uploads.head, rows)
    starts = result.starts
    index = np.arange(len(upload)) - np.repeat(starts[:-1], np.diff(starts))
    return Unrolled(result, index.astype(np.int32), dropped)


def _repeated(
    rows: pa.RecordBatch, upload: np.ndarray, times: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """bool of shape (rows,): equal in every field to an earlier sample of the same upload.

    Only rows that share upload and time with a neighbour are compared.
    """
    involved = np.zeros(len(upload), bool)
    involved[1:] |= candidates
    involved[:-1] |= candidates
    positions = np.flatnonzero(involved)
    repeated = np.zeros(len(upload), bool)
    seen: set[tuple[object, ...]] = set()
    for position, row in zip(positions, rows.take(pa.array(positions)).to_pylist(), strict=True):
        key = (upload[position], times[position], repr(row))
        if key in seen:
            repeated[position] = True
        seen.add(key)
    return repeated
