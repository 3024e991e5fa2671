"""Avro to uploads: all messages of one writer schema in one native call.

The native decoder ignores bytes left over and does not name the bad message. So all bodies are
joined to ONE datum, an array of records, with a guard (a number that no sender can know) before
each record and after the last. A body that is too short or too long shifts the guards, which then
do not read as written; the bad message is found by cutting the batch into smaller ones."""

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
from transforms.decode.coerce import EARLIEST_RECEIVED_MS, INVALID, LATEST_MS, LATEST_RECEIVED_MS
from transforms.model.arrow_numpy import filled_int64
from transforms.model.dead_letters import Refusal
from transforms.model.quality_flags import BIT
from transforms.model.thresholds import Bounds
from transforms.model.uploads import (
    EXTRAS,
    HEAD,
    Uploads,
    message_ids,
    normal_device_nos,
    rows_schema,
)

SMALLEST_CUT = 8
CUTS = 8
_GUARD = "odograph_guard"


class WriterSchemas(Protocol):
    """A source of writer schemas: a directory or a registry."""

    def lookup(self, schema_id: int) -> dict[str, Any] | None:
        """The parsed schema of this id; None when there is none. Raises DependencyFailed (or
        another error of the connector) when the source is down."""


@dataclass(frozen=True)
class Bodies:
    """Messages of one writer schema without their framing. `rows` is int64 of shape (messages,):
    their rows in the raw batch."""

    rows: np.ndarray
    values: list[bytes]
    schema_id: int

    def part(self, start: int, end: int) -> Bodies:
        """The messages from `start` to before `end`."""
        return Bodies(self.rows[start:end], self.values[start:end], self.schema_id)


Decoded = tuple[list[tuple[np.ndarray, pa.StructArray]], list[Refusal]]
"""Decoded records with their rows in the raw batch, and refusals of the others."""


def zigzag(number: int) -> bytes:
    """`number` encoded as an Avro long."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest & ~0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def cut_frames(
    raw: pa.RecordBatch, rows: np.ndarray, bounds: Bounds
) -> tuple[list[Bodies], list[Refusal]]:
    """Split the messages in `rows`, which start with a zero byte, into schema id and body.

    Returns bodies by schema id, and refusals (OVERSIZE, BAD_FRAMING).
    """
    values = raw.column("value").take(pa.array(rows))
    lengths = np.asarray(pc.binary_length(values))
    refusals = []
    for at in np.flatnonzero(lengths > bounds.max_message_bytes):
        text = f"{lengths[at]} bytes, more than max_message_bytes {bounds.max_message_bytes}"
        refusals.append(Refusal(int(rows[at]), "OVERSIZE", text))
    for at in np.flatnonzero(lengths < 5):
        text = f"{lengths[at]} bytes, fewer than the 5 of magic byte and schema id"
        refusals.append(Refusal(int(rows[at]), "BAD_FRAMING", text))
    whole = np.flatnonzero((lengths >= 5) & (lengths <= bounds.max_message_bytes))
    starts = np.frombuffer(values.buffers()[1], np.int32)[values.offset :][whole]
    data = np.frombuffer(values.buffers()[2], np.uint8) if len(whole) else np.empty(0, np.uint8)
    ids = np.zeros(len(whole), np.int64)
    for position in range(1, 5):
        ids = ids * 256 + data[starts + position]
    content, ends = data.tobytes(), starts + lengths[whole]
    groups = []
    for schema_id in np.unique(ids):
        chosen = ids == schema_id
        # slices of one bytes object: a tenth of the time that a list of Arrow values takes
        cuts = zip((starts[chosen] + 5).tolist(), ends[chosen].tolist(), strict=True)
        bodies = [content[start:end] for start, end in cuts]
        groups.append(Bodies(rows[whole[chosen]], bodies, int(schema_id)))
    return groups, refusals


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
    """All bodies as one struct array (field 0 is the guard), or None when any of them is not
    exactly one datum."""
    seed = hashlib.sha256(b"".join(bodies[:64])).digest()
    guard = int.from_bytes(seed[:8], "big") >> 2
    mark = zigzag(guard)
    datum = b"".join([zigzag(len(bodies)), mark, mark.join(bodies), b"\0", mark])
    items = decode_array(datum, _guarded(writer_json), len(bodies), guard, writer_json)
    if items is None or not (np.asarray(items.field(0)) == guard).all():
        return None
    return items


def decode_array(
    datum: bytes, schema: str, count: int, end: int, writer_json: str
) -> pa.StructArray | None:
    """The records of one datum {items: array, end: long}; None unless there are exactly `count`
    valid records and `end` is read back as given."""
    try:
        batch = pa.record_batch(pyruhvro.deserialize_array([datum], schema))
        items = batch.column(0).values
        items.validate(full=True)
    except (ValueError, pa.ArrowInvalid):
        return None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        _BEYOND_NATIVE.add(writer_json)
        return None
    exact = len(items) == count and batch.column(1)[0].as_py() == end
    return items if exact else None


_BEYOND_NATIVE: set[str] = set()
"""Writer schemas with types the native decoder cannot take (bytes, decimal, uuid, …)."""


def beyond_native(writer_json: str) -> bool:
    """Whether the native decoder has panicked on this writer schema."""
    return writer_json in _BEYOND_NATIVE


def decode_slowly(bodies: Bodies, writer_json: str) -> Decoded:
    """Decode one message at a time with fastavro, into the reader schema of the message type."""
    message_type = message_type_of(json.loads(writer_json))
    reader = load(f"message_{message_type}").avro
    kept, records, refusals = [], [], []
    for row, body in zip(bodies.rows.tolist(), bodies.values, strict=True):
        reason = poison(body, writer_json)
        if reason is None:
            try:
                record: Any = fastavro.schemaless_reader(
                    io.BytesIO(body), _parsed(writer_json), _parsed(json.dumps(reader))
                )
                record["extras"] = sorted(record.get("extras", {}).items())
            except Exception as error:  # what the schemas cannot resolve
                reason = f"{type(error).__name__}: {error}"
            else:
                kept.append(row)
                records.append(record)
        if reason is not None:
            refusals.append(Refusal(row, "BAD_AVRO", f"schema id {bodies.schema_id}: {reason}"))
    wanted = pa.struct([pa.field(f["name"], arrow_type(f["type"])) for f in reader["fields"]])
    done, misfits = _as_structs(kept, records, wanted)
    refusals += [
        Refusal(row, "BAD_AVRO", f"schema id {bodies.schema_id}: {reason}")
        for row, reason in misfits
    ]
    return done, refusals


def _as_structs(
    rows: list[int], records: list[dict[str, Any]], wanted: pa.StructType
) -> tuple[list[tuple[np.ndarray, pa.StructArray]], list[tuple[int, str]]]:
    """Records as struct arrays with their rows, and rows of records that hold other values than
    `wanted` has room for, with the reason."""
    if not rows:
        return [], []
    try:
        return [(np.array(rows), pa.array(records, wanted))], []
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        if len(rows) == 1:
            return [], [(rows[0], f"{type(error).__name__}: {error}")]
    parts = [_as_structs([row], [one], wanted) for row, one in zip(rows, records, strict=True)]
    return [good for part, _ in parts for good in part], [bad for _, part in parts for bad in part]


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


def decode_bodies(bodies: Bodies, writer_json: str) -> Decoded:
    """Decode natively; a batch that is refused is cut until the bad messages are alone."""
    if beyond_native(writer_json):
        return decode_slowly(bodies, writer_json)
    items = decode_natively(bodies.values, writer_json)
    if items is not None:
        return [(bodies.rows, items)], []
    count = len(bodies.values)
    if count == 1:
        return decode_slowly(bodies, writer_json)
    step = -(-count // CUTS) if count > SMALLEST_CUT else 1
    done, refusals = [], []
    for start in range(0, count, step):
        part, bad = decode_bodies(bodies.part(start, start + step), writer_json)
        done += part
        refusals += bad
    return done, refusals


def message_type_of(writer: dict[str, Any]) -> str | None:
    """`gps` for a record MessageGps or VehicleGps; None for any other record."""
    if not isinstance(writer, dict) or writer.get("type") != "record":
        return None
    name = str(writer.get("name", "")).rpartition(".")[2].lower()
    for prefix in ("message", "vehicle"):
        if name.startswith(prefix) and name[len(prefix) :] in MESSAGE_TYPES:
            return name[len(prefix) :]
    return None


def _at(writer: pa.StructType, reader: dict[str, Any]) -> int:
    """Index of a reader's field in the writer schema, by name or alias; -1 if it has none."""
    for name in (reader["name"], *reader.get("aliases", ())):
        at = int(writer.get_field_index(name))
        if at >= 0:
            return at
    return -1


def resolve(struct: pa.StructArray, field: Field, raw_field: dict[str, Any]) -> pa.Array:
    """Column `field` of the reader schema, of shape (records,), out of the writer's struct: by name
    or alias, in the reader's type; unknown enum symbols and absent fields become the default."""
    wanted = arrow_type(field.avro_type)
    at = _at(struct.type, raw_field)
    if at < 0:
        empty = None if field.default in (None, {}) else field.default
        return pa.repeat(pa.scalar(empty, wanted), len(struct))
    column = pc.struct_field(struct, at)
    if field.kind == "enum":
        allowed = pa.array(field.avro_type["symbols"])
        fallback = field.avro_type.get("default", field.default)
        column = pc.if_else(pc.is_in(column, allowed), column, fallback)
    if pa.types.is_timestamp(wanted):
        return column.cast(pa.timestamp("ms"), safe=False).cast(UTC_MS)
    if column.type == wanted:
        return column
    return column.cast(wanted, safe=not pa.types.is_floating(wanted))


def to_uploads(
    items: pa.StructArray, raw: pa.RecordBatch, message_type: str, reader: dict[str, Any]
) -> Uploads:
    """Uploads of decoded records, all of which have a terminal and samples. `raw` holds the raw row
    of each record, `reader` is the parsed schema `message_<type>`."""
    fields = {raw_field["name"]: raw_field for raw_field in reader["fields"]}
    head = {f.name: resolve(items, f, fields[f.name]) for f in envelope_fields()}
    device = normal_device_nos(head["device_no"])
    message_id = pc.if_else(pc.equal(head["message_id"], ""), None, head["message_id"])
    if message_id.null_count:
        computed = message_ids(device, message_type, head["boot_count"], head["seq"], raw)
        message_id = pc.coalesce(message_id, computed)
    filled = pc.greater(pc.list_value_length(_entries(head["extras"])), 0).fill_null(False)
    head |= {
        **{name: raw.column(name) for name in ("topic", "partition", "offset", "object", "line")},
        "message_id": message_id,
        "device_no": device,
        "extras": head["extras"].take(_present(filled)),
        "flags": pc.multiply(filled.cast(pa.int64()), BIT["EXTRA_FIELDS"]),
    }
    head["received_time"], bad_time = _within(
        head["received_time"], EARLIEST_RECEIVED_MS, LATEST_RECEIVED_MS
    )
    head["flags"] = pc.bit_wise_or(head["flags"], pa.array(np.where(bad_time, INVALID, 0)))
    upload, samples = _samples(items, message_type)
    if message_type not in REPORT_TYPES:
        fields = {f["name"]: f for f in fields["samples"]["type"]["items"]["fields"]}
    flags = np.zeros(len(upload), np.int64)
    payload = []
    for field in payload_fields(message_type):
        column, bad = _plain(resolve(samples, field, fields[field.name]))
        flags[bad] |= INVALID
        payload.append(column)
    columns = [pa.array(upload), pa.array(flags), pa.nulls(len(upload), EXTRAS), *payload]
    return Uploads(
        message_type,
        pa.RecordBatch.from_arrays([head[name] for name in HEAD.names], schema=HEAD),
        pa.RecordBatch.from_arrays(columns, schema=rows_schema(message_type)),
    )


def _present(filled: pa.Array) -> pa.Array:
    """Row numbers, null where `filled` is false: to take by, so that those rows become null."""
    return pa.array(np.arange(len(filled)), mask=~np.asarray(filled))


def _within(times: pa.Array, lowest: int, highest: int) -> tuple[pa.Array, np.ndarray]:
    """Times, null where outside the range; and bool of shape (rows,), whether they were outside."""
    numbers = filled_int64(times, lowest)
    bad = (numbers < lowest) | (numbers > highest)
    return (pc.if_else(pa.array(bad), None, times) if bad.any() else times), bad


def _plain(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """A payload column, null where a value has no meaning (NaN, infinities, times before 1970 or
    after 9999); and bool of shape (rows,), where that was so."""
    if pa.types.is_timestamp(column.type):
        return _within(column, 0, LATEST_MS)
    none = np.zeros(len(column), bool)
    if not pa.types.is_floating(column.type) or column.null_count == len(column):
        return column, none
    if np.isfinite(pc.sum(column).as_py()):
        return column, none
    bad = np.asarray(pc.invert(pc.is_finite(column)).fill_null(False))
    return pc.if_else(pa.array(bad), None, column), bad


def _entries(maps: pa.MapArray) -> pa.ListArray:
    """Maps as lists of their entries, because pyarrow counts the length of lists only."""
    return maps.cast(pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())])))


def _samples(items: pa.StructArray, message_type: str) -> tuple[np.ndarray, pa.StructArray]:
    """The head row of each sample (int32 of shape (samples,)), and the samples."""
    if message_type in REPORT_TYPES:
        return np.arange(len(items), dtype=np.int32), items
    lists = items.flatten()[[child.name for child in items.type].index("samples")]
    lengths = np.asarray(pc.list_value_length(lists))
    return np.repeat(np.arange(len(items), dtype=np.int32), lengths), lists.flatten()


def incomplete(
    items: pa.StructArray, message_type: str, bounds: Bounds
) -> dict[int, tuple[str, str]]:
    """Records that lack what an upload needs: position in `items` to error type and message."""
    names = [child.name for child in items.type]
    problems: dict[int, tuple[str, str]] = {}
    if message_type not in REPORT_TYPES:
        if "samples" not in names:
            return dict.fromkeys(range(len(items)), ("SCHEMA", "the writer schema has no samples"))
        lengths = pc.list_value_length(items.flatten()[names.index("samples")]).fill_null(0)
        counts = np.asarray(lengths)
        for row in np.flatnonzero(counts == 0):
            problems[int(row)] = ("EMPTY", "samples is empty")
        for row in np.flatnonzero(counts > bounds.max_samples):
            text = f"{counts[row]} samples, more than max_samples {bounds.max_samples}"
            problems[int(row)] = ("TOO_MANY_SAMPLES", text)
    if "device_no" not in names:
        return dict.fromkeys(range(len(items)), ("MISSING_DEVICE_NO", "no device_no"))
    device = items.flatten()[names.index("device_no")].cast(pa.string())
    length = pc.binary_length(pc.utf8_trim_whitespace(device)).fill_null(0)
    for row in np.flatnonzero(np.asarray(length) == 0):
        problems[int(row)] = ("MISSING_DEVICE_NO", "device_no is null or blank")
    for row in np.flatnonzero(np.asarray(length) > bounds.max_device_no_length):
        problems[int(row)] = ("TYPE", "device_no is too long")
    return problems
