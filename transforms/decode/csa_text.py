"""CSA lines (text over HTTPS) to uploads, one line an upload."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from functools import reduce
from operator import xor
from typing import Any

import pyarrow as pa

from schemas import payload_fields
from transforms.decode.coerce import INVALID
from transforms.decode.repair import EXTRA, Refused, Repaired
from transforms.model.dead_letters import Refusal
from transforms.model.known_terminals import KnownTerminals
from transforms.model.raw_messages import message_at
from transforms.model.thresholds import Bounds
from transforms.model.uploads import normal_device_no

TYPES = {"LOG": "log", "BOT": "boot", "GPS": "gps", "KIN": "kinematic", "ADS": "adas"}
COLUMNS = 16
FLEET_TIME = timezone(timedelta(hours=9))
_FRAME = re.compile(rb"\$(CSA,[^*]*)\*([0-9A-Fa-f]{2})")
_ANGLE = re.compile(r"(\d{2,3})(\d\d\.\d{1,8})")


def parse_frame(line: bytes, bounds: Bounds) -> list[str]:
    """The comma-separated columns of one frame, checksum verified. Raises Refused."""
    if len(line) > bounds.max_message_bytes:
        limit = bounds.max_message_bytes
        raise Refused("OVERSIZE", f"{len(line)} bytes, more than max_message_bytes {limit}")
    match = _FRAME.fullmatch(line.strip())
    if match is None:
        raise Refused("TRUNCATED", "no checksum at the end of the CSA line")
    computed = reduce(xor, match[1], 0)
    if computed != int(match[2], 16):
        raise Refused("CHECKSUM", f"checksum {match[2].decode()}, computed {computed:02X}")
    try:
        columns = match[1].decode("ascii").split(",")
    except UnicodeDecodeError as error:
        raise Refused("BAD_ENCODING", f"byte {error.start} is not ASCII") from None
    if len(columns) < COLUMNS:
        raise Refused("TRUNCATED", f"{len(columns)} columns, expected {COLUMNS}")
    return columns


def _device_time(text: str) -> int | None:
    """`yyMMddHHmmss` on a +09:00 clock as epoch ms; years 70-99 are of the last century."""
    if not re.fullmatch(r"\d{12}", text):
        return None
    century = 1900 if int(text[:2]) >= 70 else 2000
    numbers = [int(text[i : i + 2]) for i in range(0, 12, 2)]
    try:
        year, month, day, hour, minute, second = numbers
        local = datetime(century + year, month, day, hour, minute, second)
    except ValueError:
        return None
    return round(local.replace(tzinfo=FLEET_TIME).astimezone(UTC).timestamp() * 1000)


def _angle(text: str, hemisphere: str) -> float | None:
    match = _ANGLE.fullmatch(text)
    if match is None or hemisphere not in ("N", "S", "E", "W"):
        return None
    degrees = int(match[1]) + float(match[2]) / 60
    return -degrees if hemisphere in ("S", "W") else degrees


def _scaled(text: str, factor: float) -> float | None:
    return float(text) * factor if re.fullmatch(r"-?\d{1,12}(\.\d{1,6})?", text) else None


def _values(columns: list[str]) -> tuple[dict[str, Any], int]:
    """Values of a frame by field name, and TYPE_INVALID if a column that is not empty cannot be
    read."""
    fix, lat, north, lon, east, speed, heading, odometer, battery, bits, fuel = columns[5:16]
    switches = int(bits, 16) if re.fullmatch(r"[0-9A-Fa-f]{1,8}", bits) else None
    read = {
        "lat_deg": (lat, _angle(lat, north)),
        "lon_deg": (lon, _angle(lon, east)),
        "speed_kmh": (speed, _scaled(speed, 1)),
        "heading_deg": (heading, _scaled(heading, 1)),
        "odometer_m": (odometer, _scaled(odometer, 100)),
        "aux_battery_v": (battery, _scaled(battery, 0.1)),
        "fuel_level_pct": (fuel, _scaled(fuel, 1)),
        "ignition_on": (bits, None if switches is None else bool(switches & 1)),
        "door_open": (bits, None if switches is None else bool(switches & 2)),
        "locked": (bits, None if switches is None else bool(switches & 4)),
        "headlamp_on": (bits, None if switches is None else bool(switches & 8)),
    }
    values: dict[str, Any] = {name: value for name, (_, value) in read.items()}
    invalid = any(text and value is None for text, value in read.values())
    if fix != "A":
        values["lat_deg"] = values["lon_deg"] = None
    values["fix_type"] = "UNKNOWN" if fix == "A" else "NONE"
    if values["odometer_m"] is not None:
        values["odometer_m"] = round(values["odometer_m"])
    return values, INVALID if invalid else 0


def decode_frame(row: int, line: bytes, terminals: KnownTerminals, bounds: Bounds) -> Repaired:
    """One CSA line as an upload; `row` is its row in the raw batch. Raises Refused."""
    columns = parse_frame(line, bounds)
    firmware, phone, code, stamp = columns[1:5]
    if code not in TYPES:
        raise Refused("UNKNOWN_TYPE", f"CSA type {code[:16]!r}, expected one of {tuple(TYPES)}")
    message_type = TYPES[code]
    known = terminals.by_phone
    device_no = normal_device_no(phone) if known is None else known.get(phone)
    if not device_no:
        raise Refused("MISSING_DEVICE_NO", "the phone number is not in the terminal table")
    values, flags = _values(columns)
    device_time = _device_time(stamp)
    if stamp and device_time is None:
        flags |= INVALID
    sample: dict[str, Any] = {"device_time": device_time, "flags": 0, "extras": None}
    for field in payload_fields(message_type):
        if field.name != "device_time":
            value = values.get(field.name)
            sample[field.name] = field.default if value is None and not field.nullable else value
    surplus = [
        (f"_c{i}", json.dumps(text)) for i, text in enumerate(columns[COLUMNS:], COLUMNS + 1)
    ]
    head = {
        "device_no": device_no,
        "firmware_version": firmware or None,
        "received_time": None,
        "extras": surplus or None,
        "flags": flags | (EXTRA if surplus else 0),
    }
    return Repaired(row, message_type, head, [sample])


def decode_frames(
    raw: pa.RecordBatch, rows: Iterable[int], terminals: KnownTerminals, bounds: Bounds
) -> tuple[list[Repaired], list[Refusal]]:
    """Uploads and refusals of `rows` of a raw batch, which hold CSA lines."""
    decoded, refusals = [], []
    for row in rows:
        line = message_at(raw, row)
        try:
            decoded.append(decode_frame(row, line, terminals, bounds))
        except Refused as refused:
            refusals.append(Refusal(row, refused.error_type, str(refused)))
    return decoded, refusals
