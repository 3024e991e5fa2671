"""Stage 4, duplicates: of several uploads with one message_id, which counts and which is shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transforms.model.quality_flags import BIT


@dataclass(frozen=True)
class Ruling:
    """Arrays of shape (uploads,): `counts` (bool: good in the ledger, feeds the minutes), `shows`
    (bool: its rows stand in the telemetry table), `flags` (int64 bits), and `original` (int64: the
    index of the upload with the same message_id that counts)."""

    counts: np.ndarray
    shows: np.ndarray
    flags: np.ndarray
    original: np.ndarray


def rule_duplicates(
    message: np.ndarray,
    received_ms: np.ndarray,
    source_rank: np.ndarray,
    filled: np.ndarray,
    content: np.ndarray,
) -> Ruling:
    """Rule on uploads, all arrays of shape (uploads,): `message` codes are equal for equal ids,
    `source_rank` is unique (the order of object and line), `filled` counts fields that are not
    null, `content` is a hash of the values.

    M01: the first by (received_ms, source_rank) counts. M02: where contents differ, all are
    DUP_DIFF and the one with most filled fields is shown (ties: the first)."""
    count = len(message)
    order = np.lexsort((source_rank, received_ms, message))
    groups = message[order]
    first = np.ones(count, bool)
    first[1:] = groups[1:] != groups[:-1]
    starts = np.flatnonzero(first)
    sizes = np.diff(np.append(starts, count))
    counts = np.zeros(count, bool)
    counts[order[starts]] = True
    original = np.empty(count, np.int64)
    original[order] = np.repeat(order[starts], sizes)
    shows, flags = counts.copy(), np.zeros(count, np.int64)
    several = starts[sizes > 1]
    if len(several):
        differs = content[order] != content[original[order]]
        differing = np.logical_or.reduceat(differs, starts)
        for start, size in zip(starts[differing], sizes[differing], strict=True):
            members = order[start : start + size]
            flags[members] = BIT["DUP_DIFF"]
            richest = members[int(np.argmax(filled[members]))]
            shows[members[0]] = False
            shows[richest] = True
    return Ruling(counts, shows, flags, original)
