"""The stateful steps of the stream in plain Python, to drive the pure ones without an engine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from schemas.arrow import record_schema
from transforms.facts.packed_partials import PART, unpack
from transforms.facts.vehicle_minutes import merge
from transforms.live.first_verdict import first_look, numbered, remembered
from transforms.live.revised_minutes import DOSSIER, revise

LATENESS_MS = 24 * 3_600_000


class Stream:
    """Judges every dossier that an upload joined, as if none were ever quiet."""

    def __init__(self, decoder, bindings, rules, lateness_ms=LATENESS_MS):
        self.core = (decoder, bindings, rules, lateness_ms)
        self.uploads: dict[str, list[dict]] = {}
        self.records: dict[tuple, pa.RecordBatch] = {}
        self.said: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.version = 0
        self.dead = 0

    def take(self, raw: pa.RecordBatch) -> None:
        """One batch of records: first look, then the dossiers of its terminals."""
        raw = numbered(raw)
        for row in range(raw.num_rows):
            place = tuple(raw.column(n)[row].as_py() for n in ("topic", "partition", "offset"))
            self.records[place] = raw.slice(row, 1)
        found = first_look(raw, *self.core)
        self.dead += found.dead.num_rows
        rows = remembered(found.looks, raw, pa.nulls(raw.num_rows, pa.binary()))
        touched = set()
        for row in rows.to_pylist():
            self._contribute(row | {"version": 0})
            self.uploads.setdefault(row["device_no"], []).append(row)
            touched.add(row["device_no"])
        self.version += 1
        for device_no in sorted(touched):
            dossier = [row | {"version": self.version} for row in self.uploads[device_no]]
            batch = pa.RecordBatch.from_pylist(dossier, schema=DOSSIER)
            for row in revise(batch, self._again, *self.core).to_pylist():
                self._contribute(row)

    def _again(self, places: pa.RecordBatch) -> pa.RecordBatch:
        rows = [
            self.records[row["topic"], row["partition"], row["offset"]]
            for row in places.to_pylist()
        ]
        return pa.Table.from_batches(rows).combine_chunks().to_batches()[0]

    def _contribute(self, row: dict) -> None:
        key = (row["device_no"], row["message_id"])
        if key not in self.said or row["version"] > self.said[key][0]:
            self.said[key] = (row["version"], row["parts"])

    def minutes(self) -> pa.Table:
        """Vehicle minutes of all contributions."""
        parts = [
            (device_no, message_id, *part)
            for (device_no, message_id), (_, packed) in self.said.items()
            for part in each(packed)
        ]
        if not parts:
            return record_schema("vehicle_minute").empty_table()
        device_no, message_id, minute, vehicle_id, packed = zip(*parts, strict=True)
        keys = {
            "device_no": pa.array(device_no, pa.string()),
            "message_id": pa.array(message_id, pa.string()),
            "vehicle_id": pa.array(vehicle_id, pa.string()),
            "minute": pa.array(minute, pa.timestamp("ms", tz="UTC")),
        }
        return merge(unpack(pa.array(packed, pa.binary()), keys))


def each(packed: bytes) -> Iterator[tuple[int, str, bytes]]:
    """Minute, vehicle and packed partial of each part of an upload."""
    while packed:
        minute, vehicle, partial = np.frombuffer(packed, PART, 1)[0].tolist()
        at = PART.itemsize + vehicle
        yield minute, packed[PART.itemsize : at].decode(), packed[at : at + partial]
        packed = packed[at + partial :]
