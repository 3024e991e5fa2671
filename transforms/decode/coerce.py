"""Coerce values of a wrong type where nothing is lost (M15), one value at a time.

Only the slow path (`repair`, `csa_text`) comes here.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

from schemas import Field
from transforms.model.quality_flags import BIT

COERCED = BIT["TYPE_COERCED"]
INVALID = BIT["TYPE_INVALID"]
EARLIEST_RECEIVED_MS = 315_532_800_000
LATEST_RECEIVED_MS = 7_258_118_399_999
LATEST_MS = 253_402_300_799_999
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?")
_RANGES = {"int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
_TRUTH = {"true": True, "false": False, "1": True, "0": False, 1: True, 0: False}
_STAMP = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?)\s*(GMT|UTC|Z|KST|[+-]\d\d:?\d\d)"
)
_STAMP_ZONES = {"GMT": "+00:00", "UTC": "+00:00", "Z": "+00:00", "KST": "+09:00"}


def value_of(field: Field, value: Any) -> tuple[Any, int]:
    """`value` in the type of `field`, and flag bits. Never raises; None for a value that cannot be
    coerced."""
    if value is None:
        return None, 0
    if field.codes is not None:
        return _symbol(field.codes, value)
    if field.name == "device_time":
        return _device_time(value)
    if field.kind == "array":
        return _array(field.avro_type["items"], value)
    return _scalar(field.kind, value)


def _scalar(kind: str, value: Any) -> tuple[Any, int]:
    if kind in ("float", "double"):
        return _float(value, 3.4028235677973366e38 if kind == "float" else math.inf)
    if kind in _RANGES:
        return _integer(value, *_RANGES[kind])
    if kind == "boolean":
        return _boolean(value)
    return _text(value)


def _float(value: Any, limit: float) -> tuple[float | None, int]:
    flags = 0
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value, flags = float(value), COERCED
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None, INVALID
    try:
        number = float(value)
    except OverflowError:
        return None, INVALID
    if not math.isfinite(number) or abs(number) >= limit:
        return None, INVALID
    return number, flags


def _integer(value: Any, lowest: int, highest: int) -> tuple[int | None, int]:
    if isinstance(value, bool):
        return None, INVALID
    if isinstance(value, int):
        return (value, 0) if lowest <= value <= highest else (None, INVALID)
    number, _ = _float(value, math.inf)
    if number is None or not number.is_integer() or not lowest <= number <= highest:
        return None, INVALID
    if isinstance(value, str) and value.strip().lstrip("+-").isdigit():
        exact = int(value)
        return (exact, COERCED) if lowest <= exact <= highest else (None, INVALID)
    return int(number), COERCED


def _boolean(value: Any) -> tuple[bool | None, int]:
    if isinstance(value, bool):
        return value, 0
    key = value.strip().lower() if isinstance(value, str) else value
    if isinstance(key, str | int | float) and key in _TRUTH:
        return _TRUTH[key], COERCED
    return None, INVALID


def _text(value: Any) -> tuple[str | None, int]:
    if isinstance(value, str):
        return value, 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None, INVALID
    return json.dumps(value), COERCED


def _symbol(codes: dict[str, str], value: Any) -> tuple[str | None, int]:
    if isinstance(value, str) and value in codes.values():
        return value, COERCED
    number, flags = _integer(value, 0, 2**31 - 1)
    if number is None or str(number) not in codes:
        return None, INVALID
    return codes[str(number)], flags


def _array(kind: str, value: Any) -> tuple[list[Any], int]:
    if not isinstance(value, list):
        return [], INVALID
    pairs = [_scalar(kind, element) for element in value]
    flags = 0
    for _, bits in pairs:
        flags |= bits
    return [element for element, _ in pairs if element is not None], flags


def _device_time(value: Any) -> tuple[int | None, int]:
    number, flags = _integer(value, 0, LATEST_MS)
    if number is None:
        return None, INVALID
    if 10**9 <= number < 10**10:
        return number * 1000, COERCED
    return number, flags


def received_ms(value: Any) -> tuple[int | None, int]:
    """The `timestamp` of an STS message as epoch ms, and flag bits; None where it is no time."""
    if isinstance(value, str):
        match = _STAMP.fullmatch(value.strip())
        if match:
            zone = _STAMP_ZONES.get(match[2], match[2])
            try:
                moment = datetime.fromisoformat(match[1] + zone).astimezone(UTC)
            except (ValueError, OverflowError):
                return None, INVALID
            stamp = round(moment.timestamp() * 1000)
            return (
                (stamp, 0)
                if EARLIEST_RECEIVED_MS <= stamp <= LATEST_RECEIVED_MS
                else (None, INVALID)
            )
        return None, INVALID
    if value is None:
        return None, 0
    number, flags = _integer(value, EARLIEST_RECEIVED_MS, LATEST_RECEIVED_MS)
    return number, (flags | COERCED) if number is not None else INVALID
