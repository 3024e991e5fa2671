"""Loose lines: uploads sent again, junk, numbers of no one terminal (M01, M17, M18, M26)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from runners.simulation.uploads import Upload, stamp

Bad = Callable[[dict[str, Any], bytes], bytes]
RESENDS = {
    "same_bytes_seconds": (1_000, 30_000, True),
    "same_bytes_hours": (3_600_000, 36_000_000, True),
    "new_timestamp_seconds": (1_000, 30_000, False),
    "new_timestamp_minutes": (60_000, 3_600_000, False),
    "new_timestamp_hours": (3_600_000, 36_000_000, False),
}
"""Least and greatest delay (ms), and whether the receive time stays as it was."""

SHARED_NUMBERS = ("0900000001", "900000001")
"""Two known terminals that are equal without leading zeros."""


def resend(upload: Upload, kind: str, rng: np.random.Generator) -> tuple[bytes, int, int]:
    """Bytes, arrival and told receive time (epoch ms) of an upload that is sent again."""
    least, greatest, same_bytes = RESENDS[kind]
    arrival = upload.arrival + int(rng.integers(least, greatest))
    if same_bytes:
        return upload.encode(), arrival, upload.received
    old, new = (f'"timestamp":"{stamp(at)}"'.encode() for at in (upload.arrival, arrival))
    return upload.encode().replace(old, new, 1), arrival, arrival // 1000 * 1000


def _with(**change: Any) -> Bad:
    return lambda body, _: orjson.dumps(body | change)


def _without(*keys: str) -> Bad:
    return lambda body, _: orjson.dumps({k: v for k, v in body.items() if k not in keys})


def _append(text: bytes) -> Bad:
    return lambda _, line: line[:-1] + text + b"}"


def _many_samples(body: dict[str, Any], _: bytes) -> bytes:
    samples = [body["data"][0] | {"ts": body["data"][0]["ts"] + n} for n in range(601)]
    return orjson.dumps(body | {"data": samples})


JUNK: tuple[tuple[str, str, str, str, Bad], ...] = (
    ("M17", "truncated", "gps", "TRUNCATED_JSON", lambda _, line: line[: len(line) * 3 // 5]),
    ("M17", "truncated", "log", "TRUNCATED_JSON", lambda _, line: line[: len(line) // 2]),
    ("M17", "bad_utf8", "log", "BAD_ENCODING",
     lambda _, line: line.replace(b'"fw":"', b'"fw":"\xff\xfe', 1)),
    ("M17", "empty_line", "gps", "EMPTY", lambda _, line: b""),
    ("M17", "one_megabyte", "log", "OVERSIZE", _append(b',"blob":"' + b"A" * 1_000_000 + b'"')),
    ("M17", "not_json", "log", "INVALID_JSON", lambda _, line: b"terminal says hello"),
    ("M17", "array", "log", "INVALID_JSON", lambda _, line: b"[" + line + b"]"),
    ("M17", "two_objects", "log", "INVALID_JSON", lambda _, line: line + line),
    ("M17", "not_a_number", "log", "INVALID_JSON",
     lambda _, line: line.replace(b'"d":{', b'"d":{"cab2":NaN,', 1)),
    ("M17", "duplicate_key", "log", "DUPLICATE_KEY", _append(b',"boot":1')),
    ("M17", "too_deep", "log", "TOO_DEEP", _append(b',"deep":' + b"[" * 40 + b"]" * 40)),
    ("M17", "too_many_samples", "gps", "TOO_MANY_SAMPLES", _many_samples),
    ("M17", "no_payload", "log", "SCHEMA", _without("d")),
    ("M17", "payload_is_list", "log", "SCHEMA", _with(d=[1, 2])),
    ("M17", "samples_are_object", "gps", "SCHEMA", _with(data={"ts": 1})),
    ("M17", "sample_is_number", "gps", "SCHEMA", _with(data=[5])),
    ("M17", "no_samples", "gps", "EMPTY", _with(data=[])),
    ("M17", "no_device_no", "log", "MISSING_DEVICE_NO", _without("device_no")),
    ("M17", "null_device_no", "gps", "MISSING_DEVICE_NO", _with(device_no=None)),
    ("M17", "blank_device_no", "log", "MISSING_DEVICE_NO", _with(device_no="   ")),
    ("M17", "no_time", "log", "NO_TIME", _without("ts", "timestamp")),
    ("M18", "unknown_type", "log", "UNKNOWN_TYPE", _with(type="battery")),
    ("M18", "no_type", "gps", "UNKNOWN_TYPE", _without("type")),
    ("M26", "shared_number", "log", "AMBIGUOUS_DEVICE_NO", _with(device_no=900000001)),
    ("M26", "unknown_number", "gps", "AMBIGUOUS_DEVICE_NO", _with(device_no=77)),
)  # fmt: skip
"""(misbehaviour, kind, type of the upload it is made from, dead letter, bytes)."""
