"""The stateful steps of the stream in plain Python, to drive the pure ones without an engine."""

from __future__ import annotations

import pyarrow as pa

from schemas.arrow import record_schema
from transforms.dossier import DOSSIER, revise
from transforms.first_look import first_contributions, first_look, numbered, registered
from transforms.minutes import merge
from transforms.packed import unpack

LATENESS_MS = 24 * 3_600_000


class Stream:
    """Judges every dossier that an upload joined, as if none were ever quiet."""

    def __init__(self, decoder, bindings, rules, lateness_ms=LATENESS_MS):
        self.core = (decoder, bindings, rules, lateness_ms)
        self.uploads: dict[str, list[dict]] = {}
        self.records: dict[tuple, pa.RecordBatch] = {}
        self.said: dict[tuple[str, str], tuple[int, list[dict]]] = {}
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
        for look in found.looks:
            self._contribute(first_contributions(look))
        rows = registered(found.looks, raw, pa.nulls(raw.num_rows, pa.binary()))
        touched = set()
        for row in rows.to_pylist():
            self.uploads.setdefault(row["device_no"], []).append(row)
            touched.add(row["device_no"])
        self.version += 1
        for device_no in sorted(touched):
            dossier = [row | {"version": self.version} for row in self.uploads[device_no]]
            batch = pa.RecordBatch.from_pylist(dossier, schema=DOSSIER)
            self._contribute(revise(batch, self._again, *self.core))

    def _again(self, places: pa.RecordBatch) -> pa.RecordBatch:
        rows = [
            self.records[row["topic"], row["partition"], row["offset"]]
            for row in places.to_pylist()
        ]
        return pa.Table.from_batches(rows).combine_chunks().to_batches()[0]

    def _contribute(self, rows: pa.RecordBatch) -> None:
        parts: list[dict] = []
        for row in rows.to_pylist():
            if row["vehicle_id"] is not None:
                parts.append(row)
            if row["last"]:
                key = (row["device_no"], row["message_id"])
                if key not in self.said or row["version"] > self.said[key][0]:
                    self.said[key] = (row["version"], parts)
                parts = []

    def minutes(self) -> pa.Table:
        """Vehicle minutes of all contributions."""
        parts = [part for _, parts in self.said.values() for part in parts]
        if not parts:
            return record_schema("vehicle_minute").empty_table()
        keys = {
            name: pa.array([part[name] for part in parts], pa.string())
            for name in ("message_id", "device_no", "vehicle_id")
        }
        minute = pa.array([part["minute"] for part in parts], pa.timestamp("ms", tz="UTC"))
        packed = pa.array([part["partial"] for part in parts], pa.binary())
        return merge(unpack(packed, keys | {"minute": minute}))

