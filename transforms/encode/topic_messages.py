"""Messages of vehicle topics, minutes and dead letters: Avro in Confluent framing.

An upload that came as a datum of our own schema is not encoded again: the schema of a vehicle topic
is that of the device topic with a few fields more, so the vehicle's bytes are appended to the
datum."""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import MESSAGE_TYPES, REPORT_TYPES, envelope_fields, load, payload_fields
from transforms.decode.coerce import INVALID
from transforms.encode.avro import LARGEST, encode_records, joined
from transforms.model.arrow_numpy import single
from transforms.model.quality_flags import BIT
from transforms.model.uploads import EXTRAS, Uploads

CHANGED = INVALID | BIT["RECEIVED_TIME_ESTIMATED"]
"""Flags of decoding that mean: a value is not as the terminal wrote it."""


def _header(schema_id: int) -> pa.BinaryScalar:
    return pa.scalar(b"\0" + schema_id.to_bytes(4, "big"), pa.binary())


def frame(schema_id: int, bodies: pa.BinaryArray) -> pa.BinaryArray:
    """Bare datums in Confluent framing: magic 0, the schema id in 4 bytes, big-endian, the datum.
    Raises OverflowError when the result is more than a binary array holds."""
    return joined(_header(schema_id), bodies)


def _canonical(avro: Any, namespace: str) -> Any:
    """The parts of a schema that decide on bytes and meaning: full names, types, order; not docs,
    aliases, defaults or further attributes."""
    if isinstance(avro, list):
        return [_canonical(branch, namespace) for branch in avro]
    if not isinstance(avro, dict):
        return avro
    kind = avro["type"]
    if isinstance(kind, dict | list):
        return _canonical(kind, namespace)
    form = {"type": kind}
    if "name" in avro:
        own = avro.get("namespace", namespace)
        form["name"] = avro["name"] if "." in avro["name"] else f"{own}.{avro['name']}"
        namespace = form["name"].rpartition(".")[0]
    for key in ("symbols", "size", "logicalType", "precision", "scale"):
        if key in avro:
            form[key] = avro[key]
    for key in ("items", "values"):
        if key in avro:
            form[key] = _canonical(avro[key], namespace)
    if "fields" in avro:
        form["fields"] = [[f["name"], _canonical(f["type"], namespace)] for f in avro["fields"]]
    return kind if form == {"type": kind} else form


@functools.lru_cache(maxsize=256)
def _is_ours(writer_json: str, message_type: str) -> bool:
    return bool(_canonical(json.loads(writer_json), "") == _ours(message_type))


@functools.cache
def _ours(message_type: str) -> Any:
    return _canonical(load(f"message_{message_type}").avro, "")


def appendable(writer: dict[str, Any], message_type: str) -> bool:
    """Datums of this writer schema may be forwarded as they are: same names, types and order as
    our `message_<message_type>`; docs, aliases, defaults and further attributes do not matter."""
    return message_type in MESSAGE_TYPES and _is_ours(json.dumps(writer), message_type)


def appendable_rows(raw_values: pa.BinaryArray, uploads: Uploads) -> np.ndarray:
    """bool of shape (uploads,): whether the datum equals what was decoded, so that appending and
    encoding would give the same bytes.

    `raw_values` are the framed messages of an `appendable` writer, one a head row; `uploads` comes
    straight from the decoder. The datum must carry its message_id and the terminal in normal
    form, and decoding must not have replaced a value (an impossible time, NaN).
    """
    if not len(uploads):
        return np.zeros(0, bool)
    of_samples = np.asarray(uploads.rows.column("flags"))
    flags = np.bitwise_or.reduceat(of_samples, uploads.starts[:-1])
    good: np.ndarray = ((flags | np.asarray(uploads.head.column("flags"))) & CHANGED) == 0
    starts = encode_records(uploads.head, _START)
    lengths = np.asarray(pc.binary_length(starts))
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        values, wanted = raw_values, starts
        if len(rows) < len(starts):
            values, wanted = values.take(pa.array(rows)), wanted.take(pa.array(rows))
        same = pc.equal(pc.binary_slice(values, 5, 5 + length), wanted).fill_null(False)
        good[rows] &= np.asarray(same)
    return good


_START = {
    "type": "record",
    "name": "Start",
    "fields": [{"name": "message_id", "type": "string"}, {"name": "device_no", "type": "string"}],
}
"""The fields every datum of ours begins with."""


def append_vehicle(
    raw_values: pa.BinaryArray, tails: pa.BinaryArray, schema_id: int
) -> pa.BinaryArray:
    """`vehicle_<type>` messages out of framed `message_<type>` messages and the Avro bytes of
    the vehicle's fields, row by row. Only for `appendable` writers and `appendable_rows`."""
    datums = pc.binary_slice(raw_values, 5, LARGEST)  # an open end overflows in pyarrow
    return joined(_header(schema_id), datums, tails)


def encode_uploads(uploads: Uploads, tails: pa.BinaryArray, schema_id: int) -> pa.BinaryArray:
    """Framed `vehicle_<type>` messages of decoded uploads, one a head row; `tails` are the Avro
    bytes of the vehicle's fields.

    To be called before unrolling and quality rules: a vehicle topic carries the values as the
    terminal sent them, and samples in the order it sent them. A sample's unknown fields go to the
    upload's extras as `samples[3].name`, a report's under their own name."""
    columns = {f.name: uploads.head.column(f.name) for f in envelope_fields()}
    columns["extras"] = _extras(uploads)
    names = [field.name for field in payload_fields(uploads.message_type)]
    payload = [uploads.rows.column(name) for name in names]
    if uploads.message_type in REPORT_TYPES:
        columns |= dict(zip(names, payload, strict=True))
    else:
        samples = pa.StructArray.from_arrays(payload, names=names)
        starts = pa.array(uploads.starts.astype(np.int32))
        columns["samples"] = pa.ListArray.from_arrays(starts, samples)
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    bodies = encode_records(batch, load(f"message_{uploads.message_type}").avro)
    return joined(_header(schema_id), bodies, tails)


def _extras(uploads: Uploads) -> pa.MapArray:
    """Unknown fields of the upload and of its samples together."""
    head, rows = uploads.head.column("extras"), uploads.rows.column("extras")
    if rows.null_count == len(rows):
        return head
    merged = [dict(pairs or ()) for pairs in head.to_pylist()]
    report = uploads.message_type in REPORT_TYPES
    upload, starts = uploads.upload, uploads.starts
    filled = np.flatnonzero(np.asarray(rows.is_valid()))
    for row, pairs in zip(filled.tolist(), rows.take(pa.array(filled)).to_pylist(), strict=True):
        prefix = "" if report else f"samples[{row - starts[upload[row]]}]."
        merged[upload[row]] |= {f"{prefix}{key}": text for key, text in pairs}
    return pa.array([sorted(pairs.items()) for pairs in merged], EXTRAS)


def encode_minutes(minutes: pa.Table | pa.RecordBatch, schema_id: int) -> pa.BinaryArray:
    """Framed `vehicle_minute` messages, one a row."""
    return frame(schema_id, encode_records(minutes, load("vehicle_minute").avro))


def minute_keys(minutes: pa.Table | pa.RecordBatch) -> pa.BinaryArray:
    """Keys of vehicle minutes: `vehicle_id|yyyy-MM-ddTHH:mmZ` in UTF-8, such as
    `CAR-1|2024-01-15T03:00Z`; a vehicle's sort by time."""
    naive = single(minutes.column("minute")).cast(pa.timestamp("ms"))
    times = pc.strftime(naive, format="%Y-%m-%dT%H:%MZ")
    vehicles = single(minutes.column("vehicle_id"))
    return pc.binary_join_element_wise(vehicles, times, "|").cast(pa.binary())


def minute_of(key: bytes) -> tuple[str, datetime]:
    """vehicle_id and minute (UTC) of a key of `minute_keys`. Raises ValueError for other bytes."""
    vehicle, mark, time = key.decode().rpartition("|")
    if not mark:
        raise ValueError(f"{key!r} is no key of a vehicle minute; it has no |")
    return vehicle, datetime.strptime(time, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)


def encode_dead_letters(dead: pa.Table | pa.RecordBatch, schema_id: int) -> pa.BinaryArray:
    """Framed `dead_letter` messages, one a row; `raw_value` as it is."""
    return frame(schema_id, encode_records(dead, load("dead_letter").avro))


def dead_letter_keys(dead: pa.Table | pa.RecordBatch) -> pa.BinaryArray:
    """Keys of dead letters: their dead_letter_id, so that a replay writes the same key."""
    return single(dead.column("dead_letter_id")).cast(pa.binary())
