"""Stage 4, duplicates: of several uploads with one message_id, which counts and which is shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transforms.model.quality_flags import BIT


@dataclass(frozen=True)
class Ruling:
    """Over register rows, shape (uploads,): `counts` (good in the ledger, feeds the minutes),
    `shows` (its rows stand in the telemetry table), flag bits, and the row that counts."""

    counts: np.ndarray
    shows: np.ndarray
    flags: np.ndarray
    original: np.ndarray


def rule_duplicates(
    message: np.ndarray,
    received_ms: np.ndarray,
    place: np.ndarray,
    filled: np.ndarray,
    content: np.ndarray,
) -> Ruling:
    """Rule on uploads given message codes (equal for equal ids) and a unique rank of their place.

    M01: the first by (received_ms, place) counts. M02: where contents differ, all are DUP_DIFF
    and the one with most filled fields is shown (ties: the first).
    """
    count = len(message)
    order = np.lexsort((place, received_ms, message))
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
