"""Avro to uploads: all messages of one writer schema in one native call.

The bodies are laid end to end as ONE datum, an array of guarded records, with a running number
before each body and one after the last. The decoder alone ignores left-over bytes and does not
name the bad message; the guards do the first, cutting the batch does the second.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from schemas import MESSAGE_TYPES, REPORT_TYPES, Field, envelope_fields, load, payload_fields
from schemas.arrow import UTC_MS, arrow_type
from transforms.flags import BIT
from transforms.outcome import Refusal
from transforms.rules import Bounds
from transforms.uploads import EXTRAS, HEAD, Uploads, message_ids, rows_schema

SMALLEST_CUT = 8
CUTS = 8
_GUARD = "odograph_guard"


class WriterSchemas(Protocol):
    """Where writer schemas come from: a directory, a registry."""

    def lookup(self, schema_id: int) -> dict[str, Any] | None:
        """The schema of this id; None when there is none. Raises when the source is down."""


@dataclass(frozen=True)
class Frame:
    """One message in Confluent framing, cut: row in the raw batch, writer schema id, body."""

    row: int
    schema_id: int
    body: bytes


Decoded = tuple[list[tuple[list[Frame], pa.StructArray]], list[Refusal]]
"""Decoded records with their frames, and what could not be decoded."""


def zigzag(number: int) -> bytes:
    """An Avro long."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest & ~0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def cut_frames(
    raw: pa.RecordBatch, rows: Sequence[int], bounds: Bounds
) -> tuple[list[Frame], list[Refusal]]:
    """Take magic byte and schema id off the messages in `rows`."""
    frames, refusals = [], []
    values = raw.column("value").take(pa.array(rows, pa.int64())).to_pylist()
    for row, value in zip(rows, values, strict=True):
        if len(value) > bounds.max_message_bytes:
            text = f"{len(value)} bytes, more than max_message_bytes {bounds.max_message_bytes}"
            refusals.append(Refusal(row, "OVERSIZE", text))
        elif len(value) < 5 or value[0] != 0:
            text = f"{len(value)} bytes starting with {value[:1]!r}, expected 5 or more and magic 0"
            refusals.append(Refusal(row, "BAD_FRAMING", text))
        else:
            frames.append(Frame(row, int.from_bytes(value[1:5], "big"), value[5:]))
    return frames, refusals


@functools.lru_cache(maxsize=256)
def _guarded(writer_json: str) -> str:
    writer = json.loads(writer_json)
    guarded = {**writer, "fields": [{"name": _GUARD, "type": "long"}, *writer["fields"]]}
    items = {"name": "items", "type": {"type": "array", "items": guarded}}
    return json.dumps(
        {
            "type": "record",
            "name": "OdographBatch",
            "fields": [items, {"name": "end", "type": "long"}],
        }
    )


def decode_natively(bodies: Sequence[bytes], writer_json: str) -> pa.StructArray | None:
    """All bodies as one struct array, or None when any of them is not exactly one datum."""
    seed = hashlib.sha256(b"".join(bodies[:64])).digest()
    first = int.from_bytes(seed[:7], "big") >> 2
    pieces = [zigzag(len(bodies))]
    for number, body in enumerate(bodies, first):
        pieces.append(zigzag(number))
        pieces.append(body)
    pieces += [b"\0", zigzag(first + len(bodies))]
    try:
        batch = pa.record_batch(
            pyruhvro.deserialize_array([b"".join(pieces)], _guarded(writer_json))
        )
        items = batch.column(0).values
        guards = np.asarray(items.field(0))
        expected = np.arange(first, first + len(bodies))
        if batch.column(1)[0].as_py() != first + len(bodies) or len(items) != len(bodies):
            return None
        if not np.array_equal(guards, expected):
            return None
        items.validate(full=True)
    except (ValueError, pa.ArrowInvalid):
        return None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        _BEYOND_NATIVE.add(writer_json)
        return None
    return items


_BEYOND_NATIVE: set[str] = set()
"""Writer schemas with types the native decoder cannot take (bytes, decimal, uuid, …)."""


def decode_slowly(frames: Sequence[Frame], writer_json: str) -> Decoded:
    """Message by message with fastavro, into the reader schema of the message type."""
    message_type = message_type_of(json.loads(writer_json))
    reader = load(f"message_{message_type}").avro
    kept, records, refusals = [], [], []
    for frame in frames:
        reason = poison(frame.body, writer_json)
        if reason is None:
            try:
                record = fastavro.schemaless_reader(
                    io.BytesIO(frame.body), _parsed(writer_json), _parsed(json.dumps(reader))
                )
            except Exception as error:  # what the schemas cannot resolve
                reason = f"{type(error).__name__}: {error}"
            else:
                record["extras"] = sorted(record.get("extras", {}).items())
                kept.append(frame)
                records.append(record)
        if reason is not None:
            refusals.append(
                Refusal(frame.row, "BAD_AVRO", f"schema id {frame.schema_id}: {reason}")
            )
    if not kept:
        return [], refusals
    wanted = pa.struct([pa.field(f["name"], arrow_type(f["type"])) for f in reader["fields"]])
    return [(kept, pa.array(records, wanted))], refusals


@functools.lru_cache(maxsize=256)
def _parsed(writer_json: str) -> Any:
    return fastavro.parse_schema(json.loads(writer_json))


def poison(body: bytes, writer_json: str) -> str | None:
    """Why `body` is not exactly one datum of the writer schema; None when it is."""
    stream = io.BytesIO(body)
    try:
        fastavro.schemaless_reader(stream, _parsed(writer_json), None)
    except Exception as error:  # fastavro raises whatever the bytes led it into
        return f"{type(error).__name__}: {error} at byte {stream.tell()} of {len(body)}"
    if stream.tell() != len(body):
        return f"{len(body) - stream.tell()} bytes left over after the datum of {stream.tell()}"
    return None


def decode_bodies(frames: Sequence[Frame], writer_json: str) -> Decoded:
    """Native where possible; a batch that is refused is cut until the poison stands alone."""
    if writer_json in _BEYOND_NATIVE:
        return decode_slowly(frames, writer_json)
    items = decode_natively([frame.body for frame in frames], writer_json)
    if items is not None:
        return [(list(frames), items)], []
    if len(frames) > 1:
        step = -(-len(frames) // CUTS) if len(frames) > SMALLEST_CUT else 1
        done, refusals = [], []
        for start in range(0, len(frames), step):
            part, bad = decode_bodies(frames[start : start + step], writer_json)
            done += part
            refusals += bad
        return done, refusals
    return decode_slowly(frames, writer_json)


def message_type_of(writer: dict[str, Any]) -> str | None:
    """`gps` for a record MessageGps or VehicleGps; None for any other record."""
    name = str(writer.get("name", "")).rpartition(".")[2].lower()
    for prefix in ("message", "vehicle"):
        if name.startswith(prefix) and name[len(prefix) :] in MESSAGE_TYPES:
            return name[len(prefix) :]
    return None


def _aliases(writer: Sequence[str], reader: dict[str, Any]) -> str | None:
    for name in (reader["name"], *reader.get("aliases", ())):
        if name in writer:
            return str(name)
    return None


def resolve(struct: pa.StructArray, field: Field, raw_field: dict[str, Any]) -> pa.Array:
    """Column `field` of the reader schema out of the writer's struct: by name or alias, widened,
    unknown enum symbols and absent fields replaced by the default."""
    wanted = arrow_type(field.avro_type)
    names = [child.name for child in struct.type]
    name = _aliases(names, raw_field)
    if name is None:
        empty = None if field.default in (None, {}) else field.default
        return pa.repeat(pa.scalar(empty, wanted), len(struct))
    column = struct.flatten()[names.index(name)]
    if field.kind == "enum":
        allowed = pa.array(field.avro_type["symbols"])
        fallback = field.avro_type.get("default", field.default)
        column = pc.if_else(pc.is_in(column, allowed), column, fallback)
    if pa.types.is_timestamp(wanted):
        return column.cast(pa.timestamp("ms"), safe=False).cast(UTC_MS)
    return column if column.type == wanted else column.cast(wanted)


def to_uploads(
    items: pa.StructArray, raw: pa.RecordBatch, message_type: str, reader: dict[str, Any]
) -> Uploads:
    """Uploads of decoded records that all have a terminal and samples."""
    fields = {raw_field["name"]: raw_field for raw_field in reader["fields"]}
    head = {f.name: resolve(items, f, fields[f.name]) for f in envelope_fields()}
    device = pc.utf8_upper(pc.utf8_trim_whitespace(head["device_no"]))
    given = pc.if_else(pc.equal(head["message_id"], ""), None, head["message_id"])
    if given.null_count:
        computed = message_ids(
            device, message_type, head["boot_count"], head["seq"], raw.column("value")
        )
        given = pc.coalesce(given, computed)
    filled = pc.greater(pc.list_value_length(_entries(head["extras"])), 0).fill_null(False)
    head |= {
        **{name: raw.column(name) for name in ("topic", "partition", "offset", "object", "line")},
        "message_id": given,
        "device_no": device,
        "extras": pc.if_else(filled, head["extras"], pa.scalar(None, EXTRAS)),
        "flags": pc.multiply(filled.cast(pa.int64()), BIT["EXTRA_FIELDS"]),
    }
    upload, samples = _samples(items, message_type)
    if message_type not in REPORT_TYPES:
        fields = {f["name"]: f for f in fields["samples"]["type"]["items"]["fields"]}
    columns = [
        pa.array(upload),
        pa.array(np.zeros(len(upload), np.int64)),
        pa.nulls(len(upload), EXTRAS),
        *(resolve(samples, f, fields[f.name]) for f in payload_fields(message_type)),
    ]
    return Uploads(
        message_type,
        pa.RecordBatch.from_arrays([head[name] for name in HEAD.names], schema=HEAD),
        pa.RecordBatch.from_arrays(columns, schema=rows_schema(message_type)),
    )


def _entries(maps: pa.MapArray) -> pa.ListArray:
    """The same as lists of entries; length kernels take lists only."""
    return maps.cast(pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())])))


def _samples(items: pa.StructArray, message_type: str) -> tuple[np.ndarray, pa.StructArray]:
    """int32 head row of each sample, and the samples."""
    if message_type in REPORT_TYPES:
        return np.arange(len(items), dtype=np.int32), items
    lists = items.flatten()[[child.name for child in items.type].index("samples")]
    lengths = np.asarray(pc.list_value_length(lists))
    return np.repeat(np.arange(len(items), dtype=np.int32), lengths), lists.flatten()


def incomplete(
    items: pa.StructArray, message_type: str, bounds: Bounds
) -> dict[int, tuple[str, str]]:
    """Error type and message of decoded records that lack what an upload needs, by position."""
    names = [child.name for child in items.type]
    found: dict[int, tuple[str, str]] = {}
    if message_type not in REPORT_TYPES:
        if "samples" not in names:
            return dict.fromkeys(range(len(items)), ("SCHEMA", "the writer schema has no samples"))
        lengths = pc.list_value_length(items.flatten()[names.index("samples")]).fill_null(0)
        counts = np.asarray(lengths)
        for row in np.flatnonzero(counts == 0):
            found[int(row)] = ("EMPTY", "samples is empty")
        for row in np.flatnonzero(counts > bounds.max_samples):
            text = f"{counts[row]} samples, more than max_samples {bounds.max_samples}"
            found[int(row)] = ("TOO_MANY_SAMPLES", text)
    if "device_no" not in names:
        return dict.fromkeys(range(len(items)), ("MISSING_DEVICE_NO", "no device_no"))
    device = items.flatten()[names.index("device_no")].cast(pa.string())
    length = pc.binary_length(pc.utf8_trim_whitespace(device)).fill_null(0)
    for row in np.flatnonzero(np.asarray(length) == 0):
        found[int(row)] = ("MISSING_DEVICE_NO", "device_no is null or blank")
    for row in np.flatnonzero(np.asarray(length) > bounds.max_device_no_length):
        found[int(row)] = ("TYPE", "device_no is too long")
    return found
