"""Single uploads with odd values: wrong types, unknown fields, sentinels (M15, M16, M19)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from runners.simulation.misbehaviours.contents import Spoil, Spoiler, some_samples
from runners.simulation.uploads import Upload

KEEP = object()
"""The fact stays as it was."""

Change = Callable[[Any], Any]


def log_value(
    key: str, change: Change, flag: str, fact: str | None = None, to: Any = KEEP
) -> Spoil:
    """Spoil one payload key of a log; the reading's `fact` becomes `to`."""

    def spoil(upload: Upload, rng: np.random.Generator) -> dict[str, Any] | None:
        if key not in upload.body["d"] and flag != "EXTRA_FIELDS":
            return None
        upload.body["d"][key] = change(upload.body["d"].get(key))
        if fact is not None and to is not KEEP:
            setattr(upload.readings[0], fact, to)
        upload.flags.add(flag)
        return {"field": key, "sent": upload.body["d"][key]}

    return spoil


def sample_value(key: str, change: Change, flag: str, hides: str | None = None) -> Spoil:
    """Spoil one key of four gps samples; `hides` says that speed or position is lost."""

    def spoil(upload: Upload, rng: np.random.Generator) -> dict[str, Any] | None:
        if (found := some_samples(upload, rng)) is None:
            return None
        trace, first = found
        part = slice(first, first + 4)
        for sample in upload.body["data"][part]:
            sample[key] = change(sample.get(key))
        if hides == "speed":
            trace.speed[part] = np.nan
        elif hides == "position":
            trace.lat[part] = trace.lon[part] = np.nan
        trace.flagged[part] = True
        return {"flags": [flag], "field": key, "sample_idx": list(range(first, first + 4))}

    return spoil


def envelope_value(key: str, change: Change, flag: str) -> Spoil:
    """Spoil one key of the envelope; the flag stands on every row."""

    def spoil(upload: Upload, rng: np.random.Generator) -> dict[str, Any]:
        upload.body[key] = change(upload.body.get(key))
        upload.flags.add(flag)
        return {"field": key, "sent": upload.body[key]}

    return spoil


def seconds_instead_of_ms(upload: Upload, rng: np.random.Generator) -> dict[str, Any]:
    """M15: ten digits; the position is left out so that no gps sample has the same instant."""
    upload.body["ts"] //= 1000
    del upload.body["d"]["lat"], upload.body["d"]["lon"]
    reading = upload.readings[0]
    reading.time, reading.lat, reading.lon = reading.time // 1000 * 1000, None, None
    upload.flags.add("TYPE_COERCED")
    return {"field": "ts", "sent": upload.body["ts"]}


def infinite_fuel(upload: Upload, rng: np.random.Generator) -> dict[str, Any] | None:
    """M15: 1e999, which no number type holds."""
    if "fuel" not in upload.body["d"]:
        return None
    upload.body["d"]["fuel"] = "@"
    upload.replace = (b'"fuel":"@"', b'"fuel":1e999')
    upload.readings[0].fuel_pct = None
    upload.flags.add("TYPE_INVALID")
    return {"field": "fuel", "sent": "1e999"}


def no_sequence(upload: Upload, rng: np.random.Generator) -> dict[str, Any]:
    """M15: seq is no number, so the id comes from the bytes."""
    upload.body["seq"] = "abc"
    upload.flags.add("TYPE_INVALID")
    line = f"{upload.terminal.device_no}|{upload.kind}|".encode() + upload.encode()
    upload.given_id = hashlib.sha256(line).hexdigest()[:32]
    return {"field": "seq", "sent": "abc"}


def no_receive_time(upload: Upload, rng: np.random.Generator) -> dict[str, Any]:
    """M15: the receive time is missing; the device time stands in."""
    del upload.body["timestamp"]
    upload.flags.add("RECEIVED_TIME_ESTIMATED")
    return {"field": "timestamp"}


def sample_without_time(upload: Upload, rng: np.random.Generator) -> dict[str, Any] | None:
    """M15: the last sample's time is no time; it stays out of the minutes."""
    if some_samples(upload, rng) is None:
        return None
    upload.body["data"][-1]["ts"] = "noon"
    trace = upload.gps
    for name in ("time", "speed", "lat", "lon", "place", "flagged"):
        setattr(trace, name, getattr(trace, name)[:-1])
    upload.untimed = 1
    flags = ["DEVICE_TIME_MISSING", "TYPE_INVALID"]
    return {"flags": flags, "field": "ts", "sample_idx": [len(trace.time)]}


def _always(value: Any) -> Change:
    return lambda _: value


COERCED, INVALID, UNKNOWN, SENTINEL = "TYPE_COERCED", "TYPE_INVALID", "EXTRA_FIELDS", "SENTINEL"
SPOILERS = (
    Spoiler("M15", "text_for_number", "log", log_value("spd", lambda v: f"{v}.0", COERCED)),
    Spoiler("M15", "float_for_integer", "log", log_value("odo", float, COERCED)),
    Spoiler("M15", "number_for_boolean", "log", log_value("ign", int, COERCED)),
    Spoiler("M15", "text_for_volts", "log", log_value("bat", str, COERCED)),
    Spoiler("M15", "number_for_text", "log", envelope_value("fw", _always(2.4), COERCED)),
    Spoiler("M15", "text_for_seq", "log", envelope_value("seq", str, COERCED)),
    Spoiler("M15", "float_for_boot", "log", envelope_value("boot", float, COERCED)),
    Spoiler("M15", "seconds_for_ms", "log", seconds_instead_of_ms),
    Spoiler("M15", "text_for_sample_number", "gps", sample_value("nos", str, COERCED)),
    Spoiler("M15", "text_for_sample_speed", "gps", sample_value("sp", str, COERCED)),
    Spoiler("M15", "text_for_position", "gps", sample_value("lat", str, COERCED)),
    Spoiler("M15", "text_for_sample_time", "gps", sample_value("ts", str, COERCED)),
    Spoiler("M15", "word_for_number", "log",
            log_value("spd", _always("fast"), INVALID, "speed", None)),
    Spoiler("M15", "fraction_for_integer", "log",
            log_value("odo", lambda v: v + 0.5, INVALID, "odometer_m", None)),
    Spoiler("M15", "word_for_boolean", "log",
            log_value("ign", _always("yes"), INVALID, "ignition", None)),
    Spoiler("M15", "list_for_volts", "log",
            log_value("bat", lambda v: [v], INVALID, "battery_v", None)),
    Spoiler("M15", "object_for_integer", "log", log_value("door", _always({"fl": 1}), INVALID)),
    Spoiler("M15", "infinite", "log", infinite_fuel),
    Spoiler("M15", "word_for_seq", "log", no_sequence),
    Spoiler("M15", "no_receive_time", "log", no_receive_time),
    Spoiler("M15", "word_for_sample_speed", "gps",
            sample_value("sp", _always("n/a"), INVALID, "speed")),
    Spoiler("M15", "word_for_position", "gps",
            sample_value("lat", _always("north"), INVALID, "position")),
    Spoiler("M15", "word_for_sample_time", "gps", sample_without_time),
    Spoiler("M16", "payload_field", "log", log_value("rssi5g", _always(-80), UNKNOWN)),
    Spoiler("M16", "envelope_field", "gps", envelope_value("cfg", _always({"v": [1, 2]}), UNKNOWN)),
    Spoiler("M16", "sample_field", "gps", sample_value("sbas", _always(True), UNKNOWN)),
    Spoiler("M19", "speed_255", "log", log_value("spd", _always(255), SENTINEL, "speed", None)),
    Spoiler("M19", "volts_255", "log", log_value("bat", _always(255), SENTINEL, "battery_v", None)),
    Spoiler("M19", "rpm_65535", "log", log_value("rpm", _always(65535), SENTINEL)),
    Spoiler("M19", "odometer_full", "log",
            log_value("odo", _always(4_294_967_295), SENTINEL, "odometer_m", None)),
    Spoiler("M19", "rssi_99", "log", log_value("rssi", _always(99), SENTINEL)),
    Spoiler("M19", "millivolts", "log",
            log_value("bat", lambda v: round(v * 1000), "UNIT_GUESSED")),
    Spoiler("M19", "fuel_120", "log",
            log_value("fuel", _always(120.0), "OUT_OF_RANGE", "fuel_pct", None)),
    Spoiler("M19", "sample_speed_255", "gps", sample_value("sp", _always(255), SENTINEL, "speed")),
    Spoiler("M19", "sample_speed_400", "gps",
            sample_value("sp", _always(400), "OUT_OF_RANGE", "speed")),
    Spoiler("M19", "heading_65535", "gps", sample_value("hd", _always(65535), SENTINEL)),
    Spoiler("M19", "dop_99_9", "gps", sample_value("dop", _always(99.9), SENTINEL)),
    Spoiler("M19", "satellites_255", "gps", sample_value("nos", _always(255), SENTINEL)),
    Spoiler("M19", "altitude_777", "gps", sample_value("alt", _always(-777), SENTINEL)),
    Spoiler("M19", "latitude_91", "gps",
            sample_value("lat", _always(91.0), "OUT_OF_RANGE", "position")),
)  # fmt: skip
