"""The receive time in STS JSON, written by the server: civil time with the name of a zone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.decode.coerce import EARLIEST_RECEIVED_MS, LATEST_RECEIVED_MS
from transforms.model.arrow_numpy import NO_TIME

_ZONES = {b"GMT": 0, b"UTC": 0, b"KST": 9 * 3_600_000, b"Z": 0}


def stamps_ms(stamps: pa.Array) -> np.ndarray:
    """`yyyy-MM-ddTHH:mm:ss` plus GMT, UTC, KST or Z as UTC epoch ms, int64 of shape (rows,);
    NO_TIME where it is anything else, or outside the years 1980 to 2199."""
    result = np.full(len(stamps), NO_TIME)
    lengths = pc.binary_length(stamps).fill_null(0).to_numpy()
    for suffix, zone_ms in _ZONES.items():
        rows = np.flatnonzero(lengths == 19 + len(suffix))
        if not len(rows):
            continue
        starts = np.frombuffer(stamps.buffers()[1], np.int32)[stamps.offset :][rows]
        data = np.frombuffer(stamps.buffers()[2], np.uint8)
        text = data[starts[:, None] + np.arange(19 + len(suffix))]
        fits = (text[:, 19:] == np.frombuffer(suffix, np.uint8)).all(axis=1)
        local = _civil_ms(text)
        received = local - zone_ms
        fits &= (local != NO_TIME) & (received >= EARLIEST_RECEIVED_MS)
        fits &= received <= LATEST_RECEIVED_MS
        result[rows[fits]] = received[fits]
    return result


_DAYS_IN_MONTH = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_DIGITS = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
_MARKS = {4: 45, 7: 45, 10: 84, 13: 58, 16: 58}


def _civil_ms(text: np.ndarray) -> np.ndarray:
    """Epoch ms of `yyyy-MM-ddTHH:mm:ss` in bytes of shape (rows, >= 19); NO_TIME if it is not."""
    digits = text[:, _DIGITS].astype(np.int64) - 48
    good = ((digits >= 0) & (digits <= 9)).all(axis=1)
    for position, mark in _MARKS.items():
        good &= text[:, position] == mark
    pairs = digits[:, ::2] * 10 + digits[:, 1::2]
    year = pairs[:, 0] * 100 + pairs[:, 1]
    month, day, hour, minute, second = pairs[:, 2:].T
    good &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    good &= (hour < 24) & (minute < 60) & (second < 60)
    month = np.where(good, month, 1)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    good &= day <= _DAYS_IN_MONTH[month] - ((month == 2) & ~leap)
    months = (np.where(good, year, 1970) - 1970) * 12 + month - 1
    days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + day - 1
    seconds = days * 86_400 + hour * 3_600 + minute * 60 + second
    return np.where(good, seconds * 1000, NO_TIME)
