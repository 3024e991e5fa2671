"""What a worker remembers of the rows it wrote, so that judging again writes only what changed."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa

CLEAR = 0
"""Mark of an upload whose rows are those of its first look."""


@dataclass
class WrittenVersions:
    """By terminal, the marks of its uploads that are not CLEAR; of at most `most` uploads, those
    of the terminals judged last.

    A terminal that is not remembered may have been judged by another worker before: what of it
    came before `since_ms` (epoch ms, by its record's timestamp) is written whatever its mark is.
    A mark is not changed any more by what comes `settled_ms` after its upload: by then neighbours
    of it are being forgotten, and what is left of them says less than they did.
    """

    since_ms: int
    settled_ms: int
    most: int = 500_000
    _marks: OrderedDict[str, dict[str, int]] = field(default_factory=OrderedDict)
    _count: int = 0

    def changed(
        self,
        device_no: pa.Array,
        message_id: pa.Array,
        mark: np.ndarray,
        timestamp_ms: np.ndarray,
        not_quiet: np.ndarray,
    ) -> np.ndarray:
        """bool of shape (uploads,): uploads of whole dossiers to write, which are remembered as
        written. `not_quiet` are those that others than their copies can have a say in."""
        written = np.zeros(len(mark), bool)
        encoded = device_no.dictionary_encode()
        of = np.asarray(encoded.indices)
        order = np.argsort(of, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(of[order], prepend=-1)), len(of))
        for start, end in pairwise(ends.tolist()):
            rows = order[start:end]
            terminal = encoded.dictionary[int(of[rows[0]])].as_py()
            known = self._forget(terminal)
            before = timestamp_ms[rows] < self.since_ms
            doubtful = (mark[rows] != CLEAR) | (not_quiet[rows] & before & (known is None))
            rows = rows if known else rows[doubtful]
            ids = message_id.take(pa.array(rows)).to_pylist()
            fixed = timestamp_ms[rows] < timestamp_ms[order[start:end]].max() - self.settled_ms
            written[rows], marks = _compared(known, ids, mark[rows].tolist(), fixed.tolist())
            self._remember(terminal, marks)
        return written

    def _forget(self, terminal: str) -> dict[str, int] | None:
        known = self._marks.pop(terminal, None)
        if known is not None:
            self._count -= len(known) + 1
        return known

    def _remember(self, terminal: str, marks: dict[str, int]) -> None:
        self._marks[terminal] = marks
        self._count += len(marks) + 1
        while self._count > self.most and len(self._marks) > 1:
            self._forget(next(iter(self._marks)))


def _compared(
    known: dict[str, int] | None, ids: list[str], marks: list[int], fixed: list[bool]
) -> tuple[list[bool], dict[str, int]]:
    """Which uploads differ from what is known of them, and what is known from now on."""
    if known is None:
        kept = {one: mark for one, mark in zip(ids, marks, strict=True) if mark != CLEAR}
        return [True] * len(ids), kept
    written, kept = [], {}
    for one, mark, done in zip(ids, marks, fixed, strict=True):
        before = known.get(one, CLEAR)
        after = before if done and one in known else mark
        written.append(after != before)
        if after != CLEAR:
            kept[one] = after
    return written, kept
