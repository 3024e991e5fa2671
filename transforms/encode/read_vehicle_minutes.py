"""Records of topic `vehicle-minutes` back to rows, whatever version of the schema wrote them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import load
from schemas.arrow import UTC_MS, record_schema
from transforms.decode.avro import (
    Bodies,
    WriterSchemas,
    beyond_native,
    cut_frames,
    decode_natively,
    poison,
    resolve,
)
from transforms.encode.topic_messages import minute_of
from transforms.model.dead_letters import Outcome, Refusal, dead_letters
from transforms.model.thresholds import Bounds

RECORD = (pa.field("timestamp", UTC_MS), pa.field("offset", pa.int64()))
FACTS = pa.schema([*record_schema("vehicle_minute"), *RECORD])
EMPTIED = pa.schema([pa.field("vehicle_id", pa.string()), pa.field("minute", UTC_MS), *RECORD])


@dataclass(frozen=True)
class Minutes:
    """`facts` (schema `FACTS`) are minutes, `emptied` (schema `EMPTIED`) are minutes that were
    taken back by a tombstone; each with timestamp and offset of its record."""

    facts: pa.Table
    emptied: pa.RecordBatch


def decode_minutes(raw: pa.RecordBatch, writers: WriterSchemas, bounds: Bounds) -> Outcome[Minutes]:
    """Minutes of a raw batch in which `line` is the row number, and dead letters (stage SINK).

    Raises what `writers.lookup` raises when the source of schemas is down.
    """
    values = raw.column("value")
    empty = np.flatnonzero(np.asarray(values.is_null()))
    emptied, refusals = _emptied(raw, empty)
    framed = np.asarray(pc.starts_with(values, b"\0").fill_null(False))
    for row in np.flatnonzero(~framed & np.asarray(values.is_valid())).tolist():
        refusals.append(Refusal(row, "BAD_FRAMING", "no magic byte 0 in front"))
    groups, bad = cut_frames(raw, np.flatnonzero(framed), bounds)
    refusals += bad
    parts = [FACTS.empty_table()]
    for bodies in groups:
        writer = writers.lookup(bodies.schema_id) if bodies.schema_id else None
        if writer is None or str(writer.get("name", "")).rpartition(".")[2] != "VehicleMinute":
            text = f"schema id {bodies.schema_id} is no schema of vehicle minutes"
            refusals += [Refusal(row, "UNKNOWN_TYPE", text) for row in bodies.rows.tolist()]
            continue
        good, bad = _decoded(bodies, json.dumps(writer))
        refusals += bad
        parts += [_facts(raw, rows, items) for rows, items in good]
    refusals.sort(key=lambda refusal: refusal.row)
    dead = dead_letters(raw, refusals, "SINK", bounds.max_dead_letter_bytes)
    return Outcome(Minutes(pa.concat_tables(parts), emptied), dead)


def _emptied(raw: pa.RecordBatch, rows: np.ndarray) -> tuple[pa.RecordBatch, list[Refusal]]:
    emptied, refusals = [], []
    tombstones = raw.take(pa.array(rows)).select(["key", "timestamp", "offset"])
    for row, record in zip(rows.tolist(), tombstones.to_pylist(), strict=True):
        try:
            vehicle_id, minute = minute_of(record["key"] or b"")
        except ValueError as error:
            refusals.append(Refusal(row, "BAD_KEY", str(error)))
            continue
        del record["key"]
        emptied.append({"vehicle_id": vehicle_id, "minute": minute, **record})
    return pa.RecordBatch.from_pylist(emptied, schema=EMPTIED), refusals


def _decoded(
    bodies: Bodies, writer_json: str
) -> tuple[list[tuple[np.ndarray, pa.StructArray]], list[Refusal]]:
    """All records in one native call; where one is bad, each by itself."""
    if not beyond_native(writer_json):
        items = decode_natively(bodies.values, writer_json)
        if items is not None:
            return [(bodies.rows, items)], []
    kept, records, refusals = [], [], []
    parsed = fastavro.parse_schema(json.loads(writer_json))
    for row, body in zip(bodies.rows.tolist(), bodies.values, strict=True):
        reason = poison(body, writer_json)
        if reason is None:
            kept.append(row)
            records.append(fastavro.schemaless_reader(io.BytesIO(body), parsed, None))
        else:
            refusals.append(Refusal(row, "BAD_AVRO", f"schema id {bodies.schema_id}: {reason}"))
    if not kept:
        return [], refusals
    return [(np.array(kept), pa.array(records, _struct()))], refusals


def _struct() -> pa.DataType:
    return pa.struct(list(record_schema("vehicle_minute")))


def _facts(raw: pa.RecordBatch, rows: np.ndarray, items: pa.StructArray) -> pa.Table:
    schema = load("vehicle_minute")
    raw_fields: dict[str, Any] = {field["name"]: field for field in schema.avro["fields"]}
    columns = [resolve(items, field, raw_fields[field.name]) for field in schema.fields]
    records = raw.take(pa.array(rows))
    return pa.table([*columns, records.column("timestamp"), records.column("offset")], schema=FACTS)
