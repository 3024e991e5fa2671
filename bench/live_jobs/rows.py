"""Row-at-a-time Python: fastavro and a dict of bindings. Needs nothing of this project."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime

import fastavro

try:
    from pyflink.common import Row
    from pyflink.datastream.functions import FlatMapFunction, MapFunction
except ImportError:  # Quix Streams runs it without PyFlink
    Row, FlatMapFunction, MapFunction = None, object, object


class Core:
    """Decodes an upload, finds its vehicle as of its newest sample, encodes it with the vehicle."""

    def __init__(self, plan: dict) -> None:
        self.reader = fastavro.parse_schema(plan["reader"])
        self.writer = fastavro.parse_schema(plan["writer"])
        self.writer_id = plan["writer_id"]
        self.single = plan["samples"] == 1
        self.sat: dict[str, list[tuple[int, int, str, int]]] = {}
        with open(plan["bindings"], encoding="utf-8") as file:
            for row in csv.DictReader(file):
                begin, end = _ms(row["valid_from"]), _ms(row["valid_to"])
                seats = self.sat.setdefault(row["device_no"], [])
                seats.append((begin, end, row["vehicle_id"], int(row["binding_version"])))

    def decode(self, message: bytes) -> dict:
        """The upload; times as epoch milliseconds."""
        return fastavro.schemaless_reader(io.BytesIO(message[5:]), self.reader)

    def event_ms(self, upload: dict) -> int:
        """When its newest sample was taken."""
        if self.single:
            return upload["device_time"]
        return max(sample["device_time"] for sample in upload["samples"])

    def vehicle(self, device_no: str, at: int) -> tuple[str, int] | None:
        """Vehicle and version of the binding then."""
        for begin, end, vehicle_id, version in self.sat.get(device_no, ()):
            if begin <= at < end:
                return vehicle_id, version
        return None

    def enrich(self, upload: dict) -> dict:
        """The upload as a vehicle message."""
        found = self.vehicle(upload["device_no"], self.event_ms(upload))
        upload["binding_status"] = "BOUND" if found else "UNBOUND"
        upload["vehicle"] = found and {
            "vehicle_id": found[0],
            "plate_no": "",
            "model_name": "",
            "fuel_type": "UNKNOWN",
            "region_code": None,
            "zone_id": None,
            "fleet_status": None,
            "binding_version": found[1],
            "dim_as_of": 0,
        }
        upload["enriched_time"], upload["enrich_attempt"] = 0, 1
        return upload

    def encode(self, upload: dict) -> bytes:
        """Framed Avro of a vehicle message."""
        out = io.BytesIO()
        out.write(b"\0" + self.writer_id.to_bytes(4, "big"))
        fastavro.schemaless_writer(out, self.writer, upload)
        return out.getvalue()

    def partials(self, upload: dict) -> list[tuple]:
        """Vehicle, time, count, sum, min and max of speed, and the least and greatest odometer
        (or latitude), for each minute of the upload."""
        found = self.vehicle(upload["device_no"], self.event_ms(upload))
        if found is None:
            return []
        if self.single:
            kmh, way = upload["speed_kmh"], float(upload["odometer_m"])
            return [(found[0], upload["device_time"], 1, kmh, kmh, kmh, way, way)]
        minutes: dict[int, list] = {}
        for sample in upload["samples"]:
            at, kmh, way = sample["device_time"], sample["speed_kmh"], sample["lat_deg"]
            had = minutes.get(at // 60_000)
            if had is None:
                minutes[at // 60_000] = [found[0], at, 1, kmh, kmh, kmh, way, way]
                continue
            had[2] += 1
            had[3] += kmh
            had[4], had[5] = min(had[4], kmh), max(had[5], kmh)
            had[6], had[7] = min(had[6], way), max(had[7], way)
        return [tuple(one) for one in minutes.values()]


class Convert(MapFunction):
    """Device message to vehicle message."""

    def __init__(self, plan: dict) -> None:
        self.plan = plan

    def open(self, runtime_context) -> None:
        self.core = Core(self.plan)

    def map(self, value: bytes) -> bytes:
        core = self.core
        return core.encode(core.enrich(core.decode(bytes(value))))


class Partials(FlatMapFunction):
    """Device message to rows of its minutes."""

    def __init__(self, plan: dict) -> None:
        self.plan = plan

    def open(self, runtime_context) -> None:
        self.core = Core(self.plan)

    def flat_map(self, value: bytes):
        core = self.core
        for one in core.partials(core.decode(bytes(value))):
            yield Row(*one)


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def without_logical_types(avro):
    """The schema with times as plain numbers: what a consumer that cares for speed reads."""
    if isinstance(avro, list):
        return [without_logical_types(one) for one in avro]
    if not isinstance(avro, dict):
        return avro
    return {k: without_logical_types(v) for k, v in avro.items() if k != "logicalType"}


def plan_from(path: str) -> dict:
    """The plan of a contender's run, from a JSON file."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)
