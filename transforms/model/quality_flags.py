"""Quality flags: bits of an int64 inside the core, lists of texts in the tables."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa

NAMES = (
    "CLOCK_EPOCH",
    "CLOCK_FUTURE",
    "GPS_ROLLOVER_CORRECTED",
    "TZ_CORRECTED",
    "TZ_SUSPECT",
    "DEVICE_TIME_MISSING",
    "RECEIVED_TIME_ESTIMATED",
    "DUP_DIFF",
    "GPS_ZERO",
    "GPS_JUMP",
    "GPS_STALE",
    "ODO_RESET",
    "TYPE_COERCED",
    "TYPE_INVALID",
    "SENTINEL",
    "OUT_OF_RANGE",
    "UNIT_GUESSED",
    "EXTRA_FIELDS",
    "REBOOT_LOOP",
    "IGNITION_CHATTER",
)
BIT = {name: 1 << position for position, name in enumerate(NAMES)}


@functools.lru_cache(maxsize=4096)
def texts(bits: int) -> tuple[str, ...]:
    """The flag texts of a bit mask, in the order of `NAMES`."""
    return tuple(name for name in NAMES if bits & BIT[name])


def to_list_array(bits: np.ndarray) -> pa.ListArray:
    """Column `quality_flags` for int64 masks of shape (rows,)."""
    if not bits.any():
        offsets = pa.array(np.zeros(len(bits) + 1, np.int32))
        return pa.ListArray.from_arrays(offsets, pa.array([], pa.string()))
    masks, codes = np.unique(bits, return_inverse=True)
    lists = pa.array([texts(int(mask)) for mask in masks], pa.list_(pa.string()))
    return lists.take(pa.array(codes))
