"""A steady feed of log reports, Avro of about 125 bytes, every terminal in order, going on where
the last feed of as many terminals ended.

`python -m tests.cluster.load SETTINGS TERMINALS RATE SECONDS` sends RATE uploads a second.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from connectors.kafka.client import end_offsets
from connectors.schema_registry.lookup import ids
from runners.config import load_config
from runners.simulation.kafka import Record, feed
from schemas import load
from schemas.arrow import record_schema
from tests.cluster.messages import START_MS
from transforms.encode.avro import encode_records
from transforms.encode.topic_messages import frame
from transforms.model.uploads import message_ids

EVERY_MS = 10_000
"""How often a terminal reports."""


def terminals(count: int) -> list[str]:
    """Their numbers."""
    return [f"LOAD{number:06d}" for number in range(count)]


def logs(names: list[str], schema_id: int, first: int, rounds: int) -> Iterator[Record]:
    """One report of each terminal in every round from `first` on."""
    keys = [name.encode() for name in names]
    device_no = pa.array(names)
    for number in range(first, first + rounds):
        when = START_MS + number * EVERY_MS
        batch = _round(device_no, number, when)
        values = frame(schema_id, encode_records(batch, load("message_log").avro))
        for key, value in zip(keys, values.to_pylist(), strict=True):
            yield Record("message-log", key, value, when)


def _round(device_no: pa.Array, number: int, when: int) -> pa.RecordBatch:
    count = len(device_no)
    turn = np.arange(count)
    boot, seq = pa.array(np.full(count, 1, np.int32)), pa.array(np.full(count, number, np.int64))
    raw = pa.RecordBatch.from_pylist([])
    given = {
        "message_id": message_ids(device_no, "log", boot, seq, raw),
        "device_no": device_no,
        "device_gen": pa.repeat(pa.scalar("STS"), count),
        "firmware_version": pa.repeat(pa.scalar("2.4.1"), count),
        "boot_count": boot,
        "seq": seq,
        "received_time": pa.repeat(pa.scalar(when), count),
        "device_time": pa.array(when - 700 - turn % 1000),
        "lat_deg": pa.array(37.5 + (turn % 997) * 1e-4),
        "lon_deg": pa.array(127.0 + (turn % 991) * 1e-4),
        "ignition_on": pa.repeat(pa.scalar(True), count),
        "speed_kmh": pa.array(((turn + number) % 90).astype(np.float32)),
        "odometer_m": pa.array(100_000 + number * 100 + turn),
        "aux_battery_v": pa.repeat(pa.scalar(12.6, pa.float32()), count),
    }
    columns = []
    for field in record_schema("message_log"):
        column = given.get(field.name)
        if column is None:
            empty = [] if pa.types.is_nested(field.type) else None
            column = pa.array([empty] * count, field.type)
        elif pa.types.is_timestamp(field.type):
            column = column.cast(pa.int64()).cast(pa.timestamp("ms"))
        columns.append(column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=record_schema("message_log"))


def main(settings: str, count: str, rate: str, seconds: str) -> None:
    """Send it; a line is printed when that begins, another when it is done."""
    config = load_config(settings)
    names = terminals(int(count))
    rounds = round(float(rate) * float(seconds) / len(names))
    first = sum(end_offsets(config.kafka, ["message-log"]).values()) // len(names)
    schema_id = ids(config.registry, ["message-log"])["message-log"]
    print("sending", flush=True)
    done = feed(config.kafka, logs(names, schema_id, first, rounds), float(rate))
    print(sum(done.records.values()), "uploads,", round(done.rate), "a second")


if __name__ == "__main__":
    main(*sys.argv[1:])
