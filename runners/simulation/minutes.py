"""Minute figures: group samples to partials of one upload and minute, merge partials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

EARTH_RADIUS_M = 6_371_008.8
JITTER_M, STANDING_KMH = 20.0, 1.0
MINUTE_MS = 60_000
SUMS = (
    "n_samples", "n_flagged", "speed_sum_kmh", "speed_n", "speed_sumsq", "distance_gps_m",
    "odo_resets", "driving_s", "idle_s", "ignition_on_s", "harsh_brake_n", "harsh_accel_n",
    "harsh_turn_n", "overspeed_s", "adas_n",
)  # fmt: skip
FRACTIONAL = ("speed_sum_kmh", "speed_sumsq", "distance_gps_m")
READINGS = ("odo", "battery", "fuel", "soc")
NO_TIME = np.iinfo(np.int64).min


def haversine_m(
    lat1: np.ndarray, lon1: np.ndarray, lat2: np.ndarray, lon2: np.ndarray
) -> np.ndarray:
    """Great-circle metres between positions in degrees."""
    phi1, phi2 = np.radians(lat1), np.radians(lat2)
    half = np.sin((phi2 - phi1) / 2) ** 2
    half = half + np.cos(phi1) * np.cos(phi2) * np.sin(np.radians(lon2 - lon1) / 2) ** 2
    metres: np.ndarray = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(half))
    return metres


def steps_m(rows: dict[str, np.ndarray], jump: int) -> np.ndarray:
    """Metres each row adds: from the accepted position before it in the same upload."""
    added = np.zeros(len(rows["time"]))
    seen = np.flatnonzero(~np.isnan(rows["lat"]) & (rows["place"] != jump))
    a, b = seen[:-1], seen[1:]
    same = (rows["upload"][a] == rows["upload"][b]) & (rows["place"][b] == 0)
    same &= (rows["vehicle"][a] == rows["vehicle"][b]) & (rows["vehicle"][b] >= 0)
    a, b = a[same], b[same]
    metres = haversine_m(rows["lat"][a], rows["lon"][a], rows["lat"][b], rows["lon"][b])
    standing = (rows["speed"][a] < STANDING_KMH) & (rows["speed"][b] < STANDING_KMH)
    metres[standing & (metres < JITTER_M)] = 0.0
    added[b] = metres
    return added


def group_samples(rows: dict[str, np.ndarray], steps: bool, jump: int) -> dict[str, np.ndarray]:
    """Partials of one upload, vehicle and minute.

    Rows stand by upload and time. Rows of no vehicle add nothing. `steps` is true for gps.
    """
    size = len(rows["time"])
    rows = dict(rows)
    rows["distance_gps_m"] = steps_m(rows, jump) if steps else np.zeros(size)
    rows = {name: column[rows["vehicle"] >= 0] for name, column in rows.items()}
    minute = rows["time"] // MINUTE_MS * MINUTE_MS
    size = len(minute)
    new = np.ones(size, bool)
    new[1:] = np.diff(rows["upload"]) != 0
    new[1:] |= (np.diff(rows["vehicle"]) != 0) | (np.diff(minute) != 0)
    starts = np.flatnonzero(new)
    if size == 0:
        return {}
    speed, known = rows["speed"], ~np.isnan(rows["speed"])
    filled = np.where(known, speed, 0.0)
    rows |= {
        "n_samples": np.ones(size), "n_flagged": rows["flagged"], "speed_sum_kmh": filled,
        "speed_n": known, "speed_sumsq": filled * filled,
    }  # fmt: skip
    out = {name: rows[name][starts] for name in ("vehicle", "message_id", "device")}
    out["minute"] = minute[starts]
    for name in SUMS:
        values = rows.get(name)
        out[name] = (
            np.zeros(len(starts))
            if values is None
            else np.add.reduceat(values.astype(np.float64), starts)
        )
    out["speed_min_kmh"] = np.minimum.reduceat(np.where(known, speed, np.inf), starts)
    calm = known & (rows["place"] != jump)
    if steps is False:
        calm = known
    out["speed_max_kmh"] = np.maximum.reduceat(np.where(calm, speed, -np.inf), starts)
    out["first_time"] = np.minimum.reduceat(rows["time"], starts)
    out["last_time"] = np.maximum.reduceat(rows["time"], starts)
    _edges(out, rows, starts, "position", ("lat", "lon"), rows["place"] != jump)
    for name in READINGS:
        values = rows.get(name, np.full(size, np.nan))
        _edges(out, rows | {name: values}, starts, name, (name,), np.ones(size, bool))
    battery = rows.get("battery", np.full(size, np.nan))
    out["battery_min"] = np.minimum.reduceat(np.where(np.isnan(battery), np.inf, battery), starts)
    return out


def _edges(
    out: dict[str, np.ndarray], rows: dict[str, np.ndarray], starts: np.ndarray, at: str,
    names: tuple[str, ...], usable: np.ndarray,
) -> None:  # fmt: skip
    size = len(rows["time"])
    usable = usable & ~np.isnan(rows[names[0]])
    number = np.arange(size)
    first = np.minimum.reduceat(np.where(usable, number, size), starts)
    last = np.maximum.reduceat(np.where(usable, number, -1), starts)
    none = last < 0
    for side, index in (("first", first), ("last", last)):
        index = np.where(none, 0, index)
        out[f"{side}_{at}_time"] = np.where(none, NO_TIME, rows["time"][index])
        for name in names:
            out[f"{side}_{name}"] = np.where(none, np.nan, rows[name][index])


def merge_partials(
    parts: list[dict[str, np.ndarray]], devices: list[str], name_vehicle: Callable[[int], str]
) -> dict[str, list[Any]]:
    """Vehicle minutes as columns, ordered by vehicle and minute."""
    parts = [part for part in parts if part]
    if not parts:
        return {"vehicle_id": [], "minute": []}
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((rows["message_id"], rows["minute"], rows["vehicle"]))
    rows = {name: column[order] for name, column in rows.items()}
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(rows["vehicle"]) != 0) | (np.diff(rows["minute"]) != 0)
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(order))
    out: dict[str, list[Any]] = {
        "vehicle_id": [name_vehicle(vehicle) for vehicle in rows["vehicle"][starts].tolist()],
        "minute": rows["minute"][starts].tolist(),
        "device_nos": [
            sorted({devices[device] for device in rows["device"][a:b].tolist()})
            for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
        ],
        "n_uploads": _distinct(rows["message_id"], starts).tolist(),
    }
    for name in SUMS:
        sums = np.add.reduceat(rows[name], starts)
        out[name] = (sums if name in FRACTIONAL else sums.astype(np.int64)).tolist()
    lows = np.minimum.reduceat
    out["speed_min_kmh"] = _nulls(lows(rows["speed_min_kmh"], starts))
    out["speed_max_kmh"] = _nulls(np.maximum.reduceat(rows["speed_max_kmh"], starts))
    out["aux_battery_min_v"] = _nulls(lows(rows["battery_min"], starts), single=True)
    out["first_time"] = lows(rows["first_time"], starts).tolist()
    out["last_time"] = np.maximum.reduceat(rows["last_time"], starts).tolist()
    group = np.cumsum(new) - 1
    for column, side, at, name in (
        ("first_lat_deg", "first", "position", "lat"),
        ("first_lon_deg", "first", "position", "lon"),
        ("last_lat_deg", "last", "position", "lat"),
        ("last_lon_deg", "last", "position", "lon"),
        ("odo_first_m", "first", "odo", "odo"),
        ("odo_last_m", "last", "odo", "odo"),
        ("aux_battery_last_v", "last", "battery", "battery"),
        ("fuel_last_pct", "last", "fuel", "fuel"),
        ("soc_last_pct", "last", "soc", "soc"),
    ):
        picked = _pick(rows, group, starts, side, at, name)
        if name == "odo":
            out[column] = [None if np.isnan(value) else int(value) for value in picked.tolist()]
        else:
            out[column] = _nulls(picked, single=name in READINGS)
    return out


def _pick(
    rows: dict[str, np.ndarray], group: np.ndarray, starts: np.ndarray, side: str, at: str,
    name: str,
) -> np.ndarray:  # fmt: skip
    time, sought = rows[f"{side}_{at}_time"], np.full(len(starts), np.nan)
    here = np.flatnonzero(time != NO_TIME)
    order = here[np.lexsort((rows["message_id"][here], time[here], group[here]))]
    if side == "first":
        order = order[::-1]
    sought[group[order]] = rows[f"{side}_{name}"][order]
    return sought


def _distinct(names: np.ndarray, starts: np.ndarray) -> np.ndarray:
    new = np.ones(len(names), np.int64)
    new[1:] = names[1:] != names[:-1]
    new[starts] = 1
    return np.add.reduceat(new, starts)


def _nulls(values: np.ndarray, single: bool = False) -> list[float | None]:
    if single:
        values = values.astype(np.float32).astype(np.float64)
    return [value if np.isfinite(value) else None for value in values.tolist()]
