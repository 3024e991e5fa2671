"""Hours in the fleet's time zone; folders of archive and lake are named by them."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

QUARTER_MS = 900_000


@functools.lru_cache(maxsize=65_536)
def _local_hour(quarter: int, zone: str) -> int:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=quarter * QUARTER_MS)
    local = instant.astimezone(ZoneInfo(zone))
    return ((local.year * 100 + local.month) * 100 + local.day) * 100 + local.hour


def local_hours(event_ms: np.ndarray, zone: str) -> np.ndarray:
    """int64 yyyyMMddHH of shape (rows,): the hour in `zone` of epoch ms (years 1 to 9999)."""
    quarters, inverse = np.unique(event_ms // QUARTER_MS, return_inverse=True)
    hours = np.array([_local_hour(int(quarter), zone) for quarter in quarters], np.int64)
    return hours[inverse]
