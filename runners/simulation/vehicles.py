"""Vehicles made up for ids, so that a demonstration shows more of them than their ids."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import pyarrow as pa

from connectors.operations_db.tables import VEHICLE_TYPES

_MODELS = (
    ("AVANTE", "GASOLINE"),
    ("IONIQ 5", "BEV"),
    ("K3", "GASOLINE"),
    ("NIRO", "HEV"),
    ("RAY", "GASOLINE"),
    ("SONATA", "LPG"),
    ("STARIA", "DIESEL"),
)
_LETTERS = "가나다라마바사하허호"
_REGIONS = ("11110", "11200", "11440", "11560", "11650", "11680", "11710")
_COLUMNS = ("vehicle_id", "plate_no", "model_name", "fuel_type", "region_code", "zone_id")


def made_up(vehicle_ids: Sequence[str]) -> pa.Table:
    """One plausible vehicle an id, always the same one for the same id."""
    rows = [dict(zip(_COLUMNS, _one(vehicle_id), strict=True)) for vehicle_id in vehicle_ids]
    schema = pa.schema([(name, VEHICLE_TYPES[name]) for name in _COLUMNS])
    return pa.Table.from_pylist(rows, schema)


def _one(vehicle_id: str) -> tuple[str, ...]:
    draw = zlib.crc32(vehicle_id.encode())
    model, fuel = _MODELS[draw % len(_MODELS)]
    letter = _LETTERS[draw // 7 % len(_LETTERS)]
    plate = f"{100 + draw // 70 % 900}{letter}{draw // 63_000 % 10_000:04d}"
    region = _REGIONS[draw // 11 % len(_REGIONS)]
    return vehicle_id, plate, model, fuel, region, f"{region}-{draw // 13 % 40:03d}"
