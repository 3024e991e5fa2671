"""Stage 3, quality: values out of range, positions that are wrong (M10-M13, M19, M20).

Each upload is checked by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import Field, payload_fields
from transforms.model.arrow_numpy import filled_int64, floats
from transforms.model.quality_flags import BIT
from transforms.model.thresholds import Position, Rules, UnitAdapter
from transforms.model.uploads import EXTRAS, Uploads, replace_columns

EARTH_RADIUS_M = 6_371_008.8
SENTINEL_TOLERANCE = 0.005


@dataclass(frozen=True)
class Assessed:
    """`step_m` is float64 of shape (rows,): metres from the upload's last accepted position that
    count as distance; 0 for the first position, for jumps and for jitter of a parked vehicle."""

    uploads: Uploads
    step_m: np.ndarray


def assess(uploads: Uploads, rules: Rules) -> Assessed:
    """Set wrong values to null, flag them, and measure the steps between accepted positions."""
    flags = np.array(uploads.rows.column("flags"))
    columns: dict[str, pa.Array] = {}
    for field in payload_fields(uploads.message_type):
        if field.valid or field.sentinels:
            checked = _check(uploads, field, flags, rules)
            if checked is not None:
                columns[field.name] = checked
    names = uploads.rows.schema.names
    step_m = np.zeros(len(flags))
    if "lat_deg" in names:
        columns |= _check_positions(uploads, columns, flags, rules.position)
        if uploads.message_type == "gps":
            rows = replace_columns(uploads.rows, columns)
            step_m = _steps(Uploads("gps", uploads.head, rows), flags, rules.position)
    columns["flags"] = pa.array(flags)
    rows = replace_columns(uploads.rows, columns)
    return Assessed(Uploads(uploads.message_type, uploads.head, rows), step_m)


def _adapted(uploads: Uploads, adapter: UnitAdapter) -> np.ndarray | None:
    """bool of shape (uploads,): whether the adapter applies; None if it applies to none."""
    generation = pc.equal(uploads.head.column("device_gen"), adapter.generation)
    firmware = pc.starts_with(uploads.head.column("firmware_version"), adapter.firmware_prefix)
    applies = np.asarray(pc.and_(generation, firmware.fill_null(False)))
    return applies if applies.any() else None


def _check(uploads: Uploads, field: Field, flags: np.ndarray, rules: Rules) -> pa.Array | None:
    """The column with sentinels and values out of range set to null; None if nothing changes."""
    column = uploads.rows.column(field.name)
    if column.null_count == len(column):
        return None
    extremes = pc.min_max(column).as_py()
    low, high = float(extremes["min"]), float(extremes["max"])
    adapters = [
        (adapter, applies)
        for adapter in rules.unit_adapters
        if adapter.field == field.name and (applies := _adapted(uploads, adapter)) is not None
    ]
    inside = [s for s in field.sentinels if low - 0.01 <= s <= high + 0.01]
    in_range = field.valid is None or (field.valid[0] <= low and high <= field.valid[1])
    if in_range and not inside and not adapters:
        return None
    present = np.asarray(column.is_valid())
    numbers = np.array(column.fill_null(0).to_numpy(zero_copy_only=False), np.float64)
    nulled = np.zeros(len(numbers), bool)
    for sentinel in inside:
        nulled |= np.abs(numbers - sentinel) <= SENTINEL_TOLERANCE
    nulled &= present
    flags[nulled] |= BIT["SENTINEL"]
    for adapter, applies in adapters:
        numbers = np.where(applies[uploads.upload], numbers * adapter.factor, numbers)
    if field.milli_above is not None:
        milli = present & ~nulled & (numbers > field.milli_above)
        flags[milli] |= BIT["UNIT_GUESSED"]
        numbers = np.where(milli, numbers / 1000, numbers)
    if field.valid is not None:
        outside = present & ~nulled & ((numbers < field.valid[0]) | (numbers > field.valid[1]))
        flags[outside] |= BIT["OUT_OF_RANGE"]
        nulled |= outside
    return pa.array(numbers, mask=nulled | ~present).cast(column.type)


def _check_positions(
    uploads: Uploads, columns: dict[str, pa.Array], flags: np.ndarray, rules: Position
) -> dict[str, pa.Array]:
    """Columns without half, zero and stale positions; sets their flags in `flags`."""
    rows = uploads.rows
    lat_column = columns.get("lat_deg", rows.column("lat_deg"))
    lon_column = columns.get("lon_deg", rows.column("lon_deg"))
    if lat_column.null_count == len(lat_column) and lon_column.null_count == len(lon_column):
        return {}
    lat, lon = floats(lat_column), floats(lon_column)
    gone = np.isnan(lat) != np.isnan(lon)
    zero = (np.abs(lat) < rules.zero_deg) & (np.abs(lon) < rules.zero_deg)
    stale = np.zeros(len(lat), bool)
    if uploads.message_type == "gps":
        satellites = columns.get("satellites", rows.column("satellites"))
        no_satellites = np.asarray(pc.equal(satellites, 0).fill_null(False))
        no_fix = np.asarray(pc.equal(rows.column("fix_type"), "NONE").fill_null(False))
        stale = (no_satellites | no_fix) & ~zero & ~np.isnan(lat) & ~np.isnan(lon)
    gone |= zero | stale
    if not gone.any():
        return {}
    flags[zero] |= BIT["GPS_ZERO"]
    flags[stale] |= BIT["GPS_STALE"]
    changed = {
        "lat_deg": pa.array(lat, mask=gone | np.isnan(lat)),
        "lon_deg": pa.array(lon, mask=gone | np.isnan(lon)),
    }
    if stale.any():
        changed["extras"] = _keep_stale(rows.column("extras"), stale, lat, lon)
    return changed


def _keep_stale(extras: pa.Array, stale: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> pa.Array:
    kept = extras.to_pylist()
    for row in np.flatnonzero(stale):
        position = [
            ("stale_lat_deg", repr(float(lat[row]))),
            ("stale_lon_deg", repr(float(lon[row]))),
        ]
        kept[row] = sorted([*(kept[row] or []), *position])
    return pa.array(kept, EXTRAS)


def distance_m(
    lat1: np.ndarray, lon1: np.ndarray, lat2: np.ndarray, lon2: np.ndarray
) -> np.ndarray:
    """Great-circle metres between points in degrees (haversine, mean earth radius)."""
    phi1, phi2 = np.radians(lat1), np.radians(lat2)
    half_phi, half_lambda = (phi2 - phi1) / 2, np.radians(lon2 - lon1) / 2
    a = np.sin(half_phi) ** 2 + np.cos(phi1) * np.cos(phi2) * np.sin(half_lambda) ** 2
    return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(a, 1))))


def _steps(uploads: Uploads, flags: np.ndarray, rules: Position) -> np.ndarray:
    """`step_m`; sets GPS_JUMP in `flags`."""
    rows = uploads.rows
    lat, lon = floats(rows.column("lat_deg")), floats(rows.column("lon_deg"))
    fixes = np.flatnonzero(~np.isnan(lat))
    step_m = np.zeros(len(lat))
    if len(fixes) < 2:
        return step_m
    lat, lon, upload = lat[fixes], lon[fixes], uploads.upload[fixes]
    seconds = filled_int64(rows.column("device_time"), 0)[fixes] / 1000
    same = upload[1:] == upload[:-1]
    metres = np.where(same, distance_m(lat[:-1], lon[:-1], lat[1:], lon[1:]), 0)
    speed = metres / np.maximum(np.abs(np.diff(seconds)), 1)
    accepted_from = np.arange(len(fixes) - 1)
    suspects = np.unique(upload[1:][same & (speed > rules.jump_mps)])
    bounds = np.searchsorted(upload, [suspects, suspects + 1])
    for start, end in bounds.T:
        part = slice(int(start), int(end))
        jumped, origin = _walk(lat[part], lon[part], seconds[part], rules)
        flags[fixes[part][jumped]] |= BIT["GPS_JUMP"]
        metres[start : end - 1], accepted_from[start : end - 1] = _rewalked(
            lat[part], lon[part], origin, start
        )
    metres = np.where(_jittered(rows, fixes, accepted_from, metres, rules), 0, metres)
    step_m[fixes[1:]] = metres
    return step_m


def _walk(
    lat: np.ndarray, lon: np.ndarray, seconds: np.ndarray, rules: Position
) -> tuple[np.ndarray, np.ndarray]:
    """Follow one upload's positions. Both of shape (positions,): whether it is a jump (bool), and
    the index of the position from which its distance is measured (-1 for none)."""

    phi, lam = np.radians(lat).tolist(), np.radians(lon).tolist()
    time = seconds.tolist()

    def reachable(i: int, j: int) -> bool:
        a = math.sin((phi[j] - phi[i]) / 2) ** 2
        a += math.cos(phi[i]) * math.cos(phi[j]) * math.sin((lam[j] - lam[i]) / 2) ** 2
        metres = 2 * EARTH_RADIUS_M * math.asin(math.sqrt(min(a, 1.0)))
        return bool(metres / max(abs(time[j] - time[i]), 1.0) <= rules.jump_mps)

    jumped = np.zeros(len(lat), bool)
    origin = np.full(len(lat), -1)
    last = 0
    candidates: list[int] = []
    for here in range(1, len(lat)):
        if reachable(last, here):
            origin[here], last, candidates = last, here, []
            continue
        consistent = bool(candidates) and reachable(candidates[-1], here)
        candidates = [*candidates, here] if consistent else [here]
        if len(candidates) >= rules.jump_accept:
            last, candidates = here, []
        else:
            jumped[here] = True
    return jumped, origin


def _rewalked(
    lat: np.ndarray, lon: np.ndarray, origin: np.ndarray, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Metres of the steps of one upload with jumps, and the index (among all fixes) of the fix from
    which each step is measured."""
    here = np.arange(1, len(lat))
    known = origin[1:] >= 0
    source = np.where(known, origin[1:], here - 1)
    metres = distance_m(lat[source], lon[source], lat[here], lon[here])
    return np.where(known, metres, 0), source + start


def _jittered(
    rows: pa.RecordBatch, fixes: np.ndarray, source: np.ndarray, metres: np.ndarray, rules: Position
) -> np.ndarray:
    short = metres < rules.jitter_m
    if not short.any():
        return short
    speed = floats(rows.column("speed_kmh"))[fixes]
    with np.errstate(invalid="ignore"):
        parked = speed < rules.jitter_kmh
    return np.asarray(short & parked[1:] & parked[source])
