"""Arrow forms of the schema files: the lake's tables and the JSON that STS terminals send."""

from __future__ import annotations

import functools
from typing import Any

import pyarrow as pa

from schemas import REPORT_TYPES, Field, envelope_fields, load, payload_fields

UTC_MS = pa.timestamp("ms", tz="UTC")

_PRIMITIVES = {
    "string": pa.string(),
    "long": pa.int64(),
    "int": pa.int32(),
    "double": pa.float64(),
    "float": pa.float32(),
    "boolean": pa.bool_(),
    "bytes": pa.binary(),
    "timestamp-millis": UTC_MS,
    "enum": pa.string(),
}

SOURCE = (
    pa.field("topic", pa.string(), nullable=False),
    pa.field("partition", pa.int32(), nullable=False),
    pa.field("offset", pa.int64()),
    pa.field("object", pa.string()),
    pa.field("line", pa.int64(), nullable=False),
)
"""Where an upload came from: on Kafka (topic, partition, offset), in an archive (object, line)."""


def arrow_type(avro_type: Any) -> pa.DataType:
    """The Arrow type of an Avro type as written in the schema files (enums become strings)."""
    if isinstance(avro_type, list):
        return arrow_type(next(branch for branch in avro_type if branch != "null"))
    if not isinstance(avro_type, dict):
        return _PRIMITIVES[avro_type]
    name = avro_type.get("logicalType", avro_type["type"])
    if name == "array":
        return pa.list_(arrow_type(avro_type["items"]))
    if name == "map":
        return pa.map_(pa.string(), arrow_type(avro_type["values"]))
    if name == "record":
        return pa.struct([pa.field(f["name"], arrow_type(f["type"])) for f in avro_type["fields"]])
    return _PRIMITIVES[str(name)]


def column(field: Field) -> pa.Field:
    """The lake column of a schema field."""
    return pa.field(field.name, arrow_type(field.avro_type), nullable=field.nullable)


@functools.cache
def record_schema(name: str) -> pa.Schema:
    """The table of a whole schema file, such as `dead_letter` or `vehicle_minute`."""
    return pa.schema([column(field) for field in load(name).fields])


@functools.cache
def payload_schema(message_type: str) -> pa.Schema:
    """The payload columns of `message_type` (such as `gps`), `device_time` first."""
    return pa.schema([column(field) for field in payload_fields(message_type)])


@functools.cache
def telemetry_schema(message_type: str) -> pa.Schema:
    """Table `telemetry_<message_type>`: one row a sample."""
    envelope = {field.name: column(field) for field in envelope_fields()}
    payload = payload_schema(message_type)
    return pa.schema(
        [
            envelope["message_id"],
            pa.field("sample_idx", pa.int32(), nullable=False),
            envelope["device_no"],
            pa.field("vehicle_id", pa.string()),
            pa.field("event_time", UTC_MS, nullable=False),
            payload.field("device_time"),
            envelope["received_time"],
            pa.field("time_source", pa.string(), nullable=False),
            pa.field("quality_flags", pa.list_(pa.string()), nullable=False),
            pa.field("binding_status", pa.string(), nullable=False),
            pa.field("binding_version", pa.int64()),
            *SOURCE,
            *(envelope[n] for n in ("device_gen", "firmware_version", "boot_count", "seq")),
            envelope["uptime_s"],
            pa.field("extras", pa.map_(pa.string(), pa.string())),
            *(field for field in payload if field.name != "device_time"),
        ]
    )


def _sts_type(field: Field) -> pa.DataType:
    if field.codes is not None:
        return pa.int32()
    if field.name == "received_time":
        return pa.string()
    if field.kind == "timestamp-millis":
        return pa.int64()
    return arrow_type(field.avro_type)


@functools.cache
def sts_schema(message_type: str) -> pa.Schema:
    """What a well-formed STS upload of `message_type` looks like as one JSON line."""
    envelope = [pa.field(f.sts, _sts_type(f)) for f in envelope_fields() if f.sts]
    envelope.append(pa.field("type", pa.string()))
    payload = [pa.field(f.sts, _sts_type(f)) for f in payload_fields(message_type) if f.sts]
    if message_type in REPORT_TYPES:
        report = pa.struct([field for field in payload if field.name != "ts"])
        return pa.schema([*envelope, pa.field("ts", pa.int64()), pa.field("d", report)])
    return pa.schema([*envelope, pa.field("data", pa.list_(pa.struct(payload)))])
