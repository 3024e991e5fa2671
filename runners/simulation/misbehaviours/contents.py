"""Single uploads whose samples mislead: order, repeats, positions (M01 - M03, M10 - M13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from runners.simulation.uploads import JUMP, NEW_PLACE, Trace, Upload, stamp

Spoil = Callable[[Upload, np.random.Generator], dict[str, Any] | None]
FAR_DEG = 0.05


@dataclass(frozen=True, slots=True)
class Spoiler:
    """Spoils one upload of a type; gives what the case should tell, or None if it cannot."""

    mis: str
    kind: str
    upload_kind: str
    spoil: Spoil


def some_samples(upload: Upload, rng: np.random.Generator) -> tuple[Trace, int] | None:
    """The upload's own trace and the start of four samples amid it; None if it is short."""
    if len(upload.gps.time) < 20:
        return None
    return upload.gps.own(), int(rng.integers(3, len(upload.gps.time) - 8))


def _hide(trace: Trace, samples: slice) -> None:
    trace.lat[samples] = trace.lon[samples] = np.nan
    trace.flagged[samples] = True


def newest_first(upload: Upload, rng: np.random.Generator) -> dict[str, Any]:
    """M03: samples from new to old."""
    upload.body["data"].reverse()
    return {}


def shuffled(upload: Upload, rng: np.random.Generator) -> dict[str, Any]:
    """M03: samples in no order."""
    data = upload.body["data"]
    upload.body["data"] = [data[number] for number in rng.permutation(len(data))]
    return {}


def same_sample_twice(upload: Upload, rng: np.random.Generator) -> dict[str, Any]:
    """M01: three samples stand twice in one upload."""
    data = upload.body["data"]
    for number in sorted(rng.integers(0, len(data), 3).tolist()):
        data.insert(number + 1, dict(data[number]))
    upload.inner_duplicates = 3
    return {"duplicate_samples": 3}


def zero_position(upload: Upload, rng: np.random.Generator) -> dict[str, Any] | None:
    """M10: latitude and longitude 0 on four samples."""
    if (found := some_samples(upload, rng)) is None:
        return None
    trace, first = found
    for sample in upload.body["data"][first : first + 4]:
        sample["lat"] = sample["lon"] = 0.0
    _hide(trace, slice(first, first + 4))
    return {"flags": ["GPS_ZERO"], "sample_idx": list(range(first, first + 4))}


def cold_start(upload: Upload, rng: np.random.Generator) -> dict[str, Any] | None:
    """M10: no fix yet, everything 0."""
    if (found := some_samples(upload, rng)) is None:
        return None
    trace, _ = found
    for sample in upload.body["data"][:6]:
        sample |= {"lat": 0.0, "lon": 0.0, "alt": 0, "sp": 0, "hd": 0, "nos": 0, "dop": 99.9}
        sample["fix"] = 0
    _hide(trace, slice(0, 6))
    trace.speed[:6] = 0.0
    return {"flags": ["GPS_ZERO", "SENTINEL"], "sample_idx": list(range(6))}


def single_jump(upload: Upload, rng: np.random.Generator) -> dict[str, Any] | None:
    """M11: one position five kilometres away."""
    if (found := some_samples(upload, rng)) is None:
        return None
    trace, at = found
    sample = upload.body["data"][at]
    sample["lat"] = trace.lat[at] = round(sample["lat"] + FAR_DEG, 6)
    trace.place[at], trace.flagged[at] = JUMP, True
    return {"flags": ["GPS_JUMP"], "sample_idx": [at]}


def moved(upload: Upload, rng: np.random.Generator) -> dict[str, Any] | None:
    """M11: all positions from one on are five kilometres away; the third is believed."""
    if (found := some_samples(upload, rng)) is None:
        return None
    trace, at = found
    for number, sample in enumerate(upload.body["data"][at:], at):
        sample["lat"] = trace.lat[number] = round(sample["lat"] + FAR_DEG, 6)
    trace.place[at : at + 2], trace.place[at + 2] = JUMP, NEW_PLACE
    trace.flagged[at : at + 2] = True
    return {"flags": ["GPS_JUMP"], "sample_idx": [at, at + 1], "new_place_idx": at + 2}


def jitter(upload: Upload, rng: np.random.Generator) -> dict[str, Any] | None:
    """M12: positions dance while the car stands."""
    standing = np.flatnonzero(upload.gps.speed < 1.0)
    if len(standing) < 8:
        return None
    trace = upload.gps.own()
    offsets = rng.integers(-40, 41, (len(standing), 2)).tolist()
    for at, (north, east) in zip(standing.tolist(), offsets, strict=True):
        sample = upload.body["data"][at]
        sample["lat"] = trace.lat[at] = round(sample["lat"] + north / 1e6, 6)
        sample["lon"] = trace.lon[at] = round(sample["lon"] + east / 1e6, 6)
    return {"standing_samples": len(standing)}


def _stale(change: dict[str, int]) -> Spoil:
    def spoil(upload: Upload, rng: np.random.Generator) -> dict[str, Any] | None:
        """M13: the last position is repeated without a fix."""
        if (found := some_samples(upload, rng)) is None:
            return None
        trace, first = found
        data = upload.body["data"]
        for sample in data[first : first + 4]:
            sample |= {"lat": data[first - 1]["lat"], "lon": data[first - 1]["lon"]} | change
        _hide(trace, slice(first, first + 4))
        return {"flags": ["GPS_STALE"], "sample_idx": list(range(first, first + 4))}

    return spoil


def _poorer(upload: Upload) -> dict[str, Any]:
    body = dict(upload.body)
    if upload.kind == "gps":
        body["data"] = [
            {key: value for key, value in sample.items() if key not in ("alt", "acc")}
            for sample in body["data"]
        ]
    else:
        body["d"] = {key: body["d"][key] for key in body["d"] if key not in ("bat", "bbat", "rssi")}
    return body


def _different(first_is_richer: bool) -> Spoil:
    def spoil(upload: Upload, rng: np.random.Generator) -> dict[str, Any]:
        """M02: the same id comes again with another body; the first one counts."""
        later = upload.arrival + int(rng.integers(5_000, 600_000))
        again = dict(upload.body) if not first_is_richer else _poorer(upload)
        if not first_is_richer:
            upload.body = _poorer(upload)
            if upload.kind == "log":
                upload.readings[0].battery_v = None
        upload.flags.add("DUP_DIFF")
        again["timestamp"] = stamp(later)
        return {"again": (again, later), "richer_came": "first" if first_is_richer else "second"}

    return spoil


SPOILERS = (
    Spoiler("M01", "same_sample_twice", "gps", same_sample_twice),
    Spoiler("M02", "second_has_more", "log", _different(False)),
    Spoiler("M02", "second_has_more", "gps", _different(False)),
    Spoiler("M02", "first_has_more", "log", _different(True)),
    Spoiler("M03", "newest_first", "gps", newest_first),
    Spoiler("M03", "shuffled", "gps", shuffled),
    Spoiler("M10", "zero", "gps", zero_position),
    Spoiler("M10", "cold_start", "gps", cold_start),
    Spoiler("M11", "single_jump", "gps", single_jump),
    Spoiler("M11", "moved", "gps", moved),
    Spoiler("M12", "parked_jitter", "gps", jitter),
    Spoiler("M13", "no_satellites", "gps", _stale({"nos": 0})),
    Spoiler("M13", "no_fix", "gps", _stale({"fix": 1})),
)
