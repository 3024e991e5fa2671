"""Load without end out of one simulated run: the same uploads again, each time later.

Times and boot numbers are exchanged inside the encoded lines, so that a pass costs a few array
operations and no encoder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from runners.simulation.kafka import Record

PART = 2000
BOOTS_A_PASS = 1000
FIRST_BOOT = 10_000_000
BOOT_DIGITS, SECOND_DIGITS = 8, 10
_BOOT = re.compile(rb'(?<="boot":)\d{1,6}(?=[,.}])')
_FIRST_BOOT = re.compile(rb'(?<="boot":)\d{8}(?=[,.}])')
_MS = re.compile(rb'(?<="ts":)\d{10}(?=\d{3}[,}])')
_STAMP = re.compile(rb'(?<="timestamp":")\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?=GMT")')
_STAMP_BYTES = len("2024-01-15T00:00:00")


class Loop:
    """Sends `records` of a run of `length_ms`, whole seconds, over and over. Every pass adds the
    length to arrivals, device times and receive times, and counts boots on, so that no upload is
    a duplicate; what no pipeline can read stays as it is."""

    def __init__(self, records: Sequence[Record], length_ms: int) -> None:
        self._length_s = max(1, length_ms // 1000)
        self._parts = [_Part(records[at : at + PART]) for at in range(0, len(records), PART)]

    def passes(self) -> Iterator[Iterator[list[Record]]]:
        """Pass after pass, without end, each as parts in order of arrival."""
        for number in count():
            later_s = number * self._length_s
            yield (part.shifted(later_s, number * BOOTS_A_PASS) for part in self._parts)


class _Part:
    """Some records as one array of bytes, and where in it numbers are to be exchanged."""

    def __init__(self, records: Sequence[Record]) -> None:
        values = [_BOOT.sub(_wide_boot, record.value) for record in records]
        self._records = records
        self._edges = np.cumsum([0, *map(len, values)]).tolist()
        text = b"".join(values)
        self._bytes = np.frombuffer(text, np.uint8)
        self._boots, self._boot_at = _numbers(_FIRST_BOOT, text)
        self._seconds, self._second_at = _numbers(_MS, text)
        stamps = [(found.start(), found[0].decode()) for found in _STAMP.finditer(text)]
        self._stamp_at = np.array([at for at, _ in stamps], np.int64)
        self._stamps: NDArray[np.datetime64] = np.array(
            [stamp for _, stamp in stamps], "datetime64[s]"
        )

    def shifted(self, later_s: int, boots: int) -> list[Record]:
        """The records so much later."""
        data = self._bytes.copy()
        _write(data, self._boot_at, self._boots + boots, BOOT_DIGITS)
        _write(data, self._second_at, self._seconds + later_s, SECOND_DIGITS)
        if len(self._stamps):
            stamps = np.datetime_as_string(self._stamps + np.timedelta64(later_s, "s"))
            signs = stamps.astype(f"S{_STAMP_BYTES}").view(np.uint8).reshape(-1, _STAMP_BYTES)
            data[self._stamp_at[:, None] + np.arange(_STAMP_BYTES)] = signs
        text, edges, later_ms = data.tobytes(), self._edges, later_s * 1000
        return [
            Record(record.topic, record.key, text[start:end], record.timestamp_ms + later_ms)
            for record, start, end in zip(self._records, edges, edges[1:], strict=False)
        ]


def _wide_boot(found: re.Match[bytes]) -> bytes:
    return b"%d" % (FIRST_BOOT + int(found[0]))


def _numbers(pattern: re.Pattern[bytes], text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """int64 numbers of fixed width in a text, and where they begin."""
    found = [(int(match[0]), match.start()) for match in pattern.finditer(text)]
    numbers, starts = zip(*found, strict=True) if found else ((), ())
    return np.array(numbers, np.int64), np.array(starts, np.int64)


def _write(data: np.ndarray, starts: np.ndarray, numbers: np.ndarray, digits: int) -> None:
    for place in range(digits - 1, -1, -1):
        numbers, digit = np.divmod(numbers, 10)
        data[starts + place] = digit + ord("0")
