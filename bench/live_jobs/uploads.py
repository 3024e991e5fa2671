"""Uploads for the live measurements: what a fleet sends, as Avro in Confluent framing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from runners.simulation.kafka import Record
from schemas import load
from schemas.arrow import record_schema
from transforms.encode.avro import encode_records
from transforms.encode.topic_messages import frame
from transforms.model.uploads import message_ids

START_MS = 1_760_000_400_000
"""A full minute in October 2025, UTC."""
SAMPLES = 60
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Kind:
    """One sort of upload: its message type, samples in each, and how often a terminal sends it."""

    name: str
    message_type: str
    samples: int
    every_ms: int

    @property
    def topic(self) -> str:
        """The device topic."""
        return f"message-{self.message_type}"


KINDS = {
    "log": Kind("single reports", "log", 1, 10_000),
    "gps": Kind("60-sample uploads", "gps", SAMPLES, 60_000),
}


def terminals(count: int) -> list[str]:
    """Their numbers."""
    return [f"BENCH{number:06d}" for number in range(count)]


def binding_rows(names: list[str], swap_ms: int) -> Iterator[tuple[str, str, int, int, int]]:
    """Terminal, vehicle, valid from, valid to (epoch ms) and version, ascending by time; every
    tenth terminal moves to another vehicle at `swap_ms`."""
    begin, end = START_MS - 365 * DAY_MS, START_MS + 3650 * DAY_MS
    swapped = names[::10]
    moved = set(swapped)
    for name in names:
        yield name, f"CAR-{name}", begin, swap_ms if name in moved else end, 1
    for name in swapped:
        yield name, f"CAR-{name}-B", swap_ms, end, 2


def rounds(
    kind: Kind, names: list[str], schema_id: int, first: int, count: int
) -> Iterator[Record]:
    """One upload of each terminal in every round from `first` on, as records."""
    keys = [name.encode() for name in names]
    for number in range(first, first + count):
        when = START_MS + (number + 1) * kind.every_ms
        values = encoded(kind, pa.array(names), number, when, schema_id)
        for key, value in zip(keys, values.to_pylist(), strict=True):
            yield Record(kind.topic, key, value, when)


def encoded(
    kind: Kind, device_no: pa.Array, seq: int, received_ms: int, schema_id: int
) -> pa.BinaryArray:
    """One upload of each of these terminals, received then."""
    batch = _batch(kind, device_no, seq, received_ms)
    bodies = encode_records(batch, load(f"message_{kind.message_type}").avro)
    return frame(schema_id, bodies)


def _batch(kind: Kind, device_no: pa.Array, seq: int, received_ms: int) -> pa.RecordBatch:
    count = len(device_no)
    turn = np.arange(count)
    boot, seqs = pa.array(np.full(count, 1, np.int32)), pa.array(np.full(count, seq, np.int64))
    nothing = pa.RecordBatch.from_pylist([])
    given = {
        "message_id": message_ids(device_no, kind.message_type, boot, seqs, nothing),
        "device_no": device_no,
        "device_gen": pa.repeat(pa.scalar("STS"), count),
        "firmware_version": pa.repeat(pa.scalar("2.4.1"), count),
        "boot_count": boot,
        "seq": seqs,
        "received_time": pa.repeat(pa.scalar(received_ms), count),
    }
    newest = received_ms - 700 - turn % 1000
    given |= (
        _report(turn, seq, newest) if kind.samples == 1 else {"samples": _samples(turn, newest)}
    )
    return _as(record_schema(f"message_{kind.message_type}"), given, count)


def _report(turn: np.ndarray, seq: int, newest: np.ndarray) -> dict[str, pa.Array]:
    count = len(turn)
    return {
        "device_time": pa.array(newest),
        "lat_deg": pa.array(37.5 + (turn % 997) * 1e-4),
        "lon_deg": pa.array(127.0 + (turn % 991) * 1e-4),
        "ignition_on": pa.repeat(pa.scalar(True), count),
        "speed_kmh": pa.array(((turn + seq) % 90).astype(np.float32)),
        "odometer_m": pa.array(100_000 + seq * 100 + turn),
        "aux_battery_v": pa.repeat(pa.scalar(12.6, pa.float32()), count),
        "engine_rpm": pa.array((800 + turn % 2000).astype(np.float32)),
        "coolant_temp_c": pa.array((70 + turn % 30).astype(np.float32)),
        "fuel_level_pct": pa.array((turn % 100).astype(np.float32)),
    }


def _samples(turn: np.ndarray, newest: np.ndarray) -> pa.ListArray:
    """60 seconds before `newest`, terminals moving north at up to 25 m/s."""
    back = np.arange(SAMPLES)[::-1]
    times = (newest[:, None] - back * 1000).ravel()
    kmh = np.repeat(turn % 90, SAMPLES).astype(np.float32)
    along = (np.tile(np.arange(SAMPLES), len(turn)) * kmh / 3.6) / 111_320
    size = len(times)
    given = {
        "device_time": pa.array(times),
        "lat_deg": pa.array(37.5 + np.repeat(turn % 997, SAMPLES) * 1e-4 + along),
        "lon_deg": pa.array(127.0 + np.repeat(turn % 991, SAMPLES) * 1e-4),
        "fix_type": pa.repeat(pa.scalar("TWO_D"), size),
        "speed_kmh": pa.array(kmh),
        "heading_deg": pa.repeat(pa.scalar(0, pa.float32()), size),
        "satellites": pa.repeat(pa.scalar(9, pa.int32()), size),
    }
    kind = record_schema("message_gps").field("samples").type.value_type
    items = _as(pa.schema(list(kind)), given, size)
    ends = pa.array(np.arange(len(turn) + 1, dtype=np.int32) * SAMPLES)
    return pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(items.columns, fields=kind))


def _as(schema: pa.Schema, given: dict[str, pa.Array], count: int) -> pa.RecordBatch:
    """The given columns in the schema's order and types; what is not given is null or empty."""
    columns = []
    for field in schema:
        column = given.get(field.name)
        if column is None:
            empty = [] if pa.types.is_nested(field.type) else None
            column = pa.array([empty] * count, field.type)
        elif pa.types.is_timestamp(field.type):
            column = column.cast(pa.int64()).cast(pa.timestamp("ms"))
        columns.append(column if pa.types.is_nested(field.type) else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
