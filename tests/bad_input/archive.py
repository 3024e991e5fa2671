"""Writes the hostile messages into an archive, a good neighbour after every few of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bad_input.avro_cases import SMALL, SMALL_LOG, WRITERS, datum, field_bytes, frame, varint
from tests.bad_input.case import FACT, Case, csa_with, spliced

HOUR = "2024/01/15/09"
BETWEEN = 9
ARRIVED = datetime(2024, 1, 15, 0, 30, 13, tzinfo=UTC)
RECORDS = pa.schema(
    [
        ("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()),
        ("timestamp", pa.timestamp("ms", tz="UTC")), ("key", pa.binary()), ("value", pa.binary()),
        ("headers", pa.map_(pa.string(), pa.binary())),
    ]
)  # fmt: skip
Place = tuple[str, int]


@dataclass(frozen=True)
class Neighbour:
    """A good upload: its terminal and the speed its fact must show."""

    case: Case
    speed_kmh: float


@dataclass(frozen=True)
class Written:
    """What lies at which place (object, line)."""

    hostile: dict[Place, Case]
    neighbours: dict[Place, Neighbour]


def write_archive(folder: Path, cases: Sequence[Case]) -> Written:
    """The archive, its bindings `bindings.csv` and writer schemas `schemas/<id>.avsc`."""
    written = Written({}, {})
    for is_record, extension in ((False, "json.gz"), (True, "parquet")):
        for topic in sorted({case.topic for case in cases if case.record == is_record}):
            chosen = [c for c in cases if (c.topic, c.record) == (topic, is_record)]
            name = f"{topic}/{HOUR}/{topic}+0+0000000000.{extension}"
            values = _mixed(name, chosen, written)
            path = folder / "topics" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_record:
                _write_records(path, topic, values)
            else:
                path.write_bytes(
                    gzip.compress(b"".join(v + b"\n" for v in values if v is not None))
                )
    (folder / "schemas").mkdir()
    for number, writer in WRITERS.items():
        (folder / "schemas" / f"{number}.avsc").write_text(json.dumps(writer))
    _write_bindings(folder / "bindings.csv", written)
    return written


def _mixed(name: str, cases: Sequence[Case], written: Written) -> list[bytes | None]:
    values: list[bytes | None] = []
    for position, case in enumerate(cases):
        if position % BETWEEN == 0:
            neighbour = _neighbour(len(written.neighbours), case.record)
            written.neighbours[name, len(values)] = neighbour
            values.append(neighbour.case.value)
        written.hostile[name, len(values)] = case
        values.append(case.value)
    return values


def _neighbour(number: int, record: bool) -> Neighbour:
    """STS JSON, now and then a CSA line; in records Avro in turn with JSON."""
    device_no, speed = f"G{number:05d}", 1 + number % 200
    if record and number % 2:
        known = varint(1) + field_bytes("float", float(speed))
        value = frame(SMALL, datum(SMALL_LOG, device_no, speed_kmh=known))
    elif number % 5 == 0:
        value = csa_with(10, str(speed))(device_no)
    else:
        value = spliced(device_no, known=b"%d" % speed)
    return Neighbour(Case(f"neighbour_{number}", value, FACT, device_no=device_no), speed)


def _write_records(path: Path, topic: str, values: Sequence[bytes | None]) -> None:
    count = len(values)
    columns = [
        pa.repeat(topic, count),
        pa.array([0] * count, pa.int32()),
        pa.array(range(count), pa.int64()),
        pa.array([ARRIVED] * count, RECORDS.field("timestamp").type),
        pa.array([b"key"] * count, pa.binary()),
        pa.array(values, pa.binary()),
        pa.array([[("trace", b"\xff\0")]] * count, RECORDS.field("headers").type),
    ]
    pq.write_table(pa.table(columns, schema=RECORDS), path)


def _write_bindings(path: Path, written: Written) -> None:
    cases = [*written.hostile.values(), *(n.case for n in written.neighbours.values())]
    lines = ["device_no,vehicle_id,valid_from,valid_to"]
    for case in cases:
        if case.device_no:
            lines.append(f"{case.device_no},V-{case.device_no},2020-01-01T00:00:00Z,")
    path.write_text("\n".join(lines) + "\n")
