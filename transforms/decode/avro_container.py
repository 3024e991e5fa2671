"""Avro object containers to uploads: a whole block of records in one native call."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastavro.types import Schema

from transforms.decode import avro
from transforms.decode.decoder import Decoder, Part, avro_uploads, finish
from transforms.decode.writer_schemas import unfit
from transforms.model import raw_messages
from transforms.model.dead_letters import Outcome, Refusal, dead_letters
from transforms.model.uploads import Uploads


@dataclass(frozen=True)
class ContainerBlock:
    """A block of a container: `count` records, uncompressed, one after another in `data`;
    `first_line` is the number of the first record in the object."""

    source: raw_messages.Source
    first_line: int
    count: int
    data: bytes
    writer: Schema


def _raw_batch(block: ContainerBlock, values: list[bytes]) -> pa.RecordBatch:
    array = pa.array(values, pa.binary())
    return raw_messages.from_lines(array, block.source, block.first_line, is_line=False)


def _native(block: ContainerBlock) -> pa.StructArray | None:
    """All records of the block; None when its bytes are not exactly `count` datums, or when a
    record has no message_id, so that one must be made of its bytes."""
    writer_json = json.dumps(block.writer)
    if avro.beyond_native(writer_json):
        return None
    array = {"type": "array", "items": block.writer}
    fields = [{"name": "items", "type": array}, {"name": "end", "type": "long"}]
    schema = json.dumps({"type": "record", "name": "OdographBlock", "fields": fields})
    end = 0x5DEECE66D
    parts = [avro.zigzag(block.count), block.data, b"\0", avro.zigzag(end)]
    items = avro.decode_array(b"".join(parts), schema, block.count, end, writer_json)
    names = [child.name for child in items.type] if items is not None else []
    if items is None or "message_id" not in names:
        return None
    nameless = pc.equal(items.flatten()[names.index("message_id")], "")
    return None if pc.any(nameless).as_py() else items


def _datums(block: ContainerBlock) -> tuple[list[bytes], bytes, str]:
    """The bytes of each record that can be read, the bytes of the rest, and what is wrong with
    it."""
    stream = io.BytesIO(block.data)
    schema = fastavro.parse_schema(json.loads(json.dumps(block.writer)))
    datums: list[bytes] = []
    start = 0
    for _ in range(block.count):
        try:
            fastavro.schemaless_reader(stream, schema, None)
        except Exception as error:  # fastavro raises whatever the bytes led it into
            return datums, block.data[start:], f"{type(error).__name__}: {error}"
        datums.append(block.data[start : stream.tell()])
        start = stream.tell()
    return datums, block.data[start:], "bytes left over after the last record"


def decode_block(block: ContainerBlock, decoder: Decoder) -> Outcome[list[Uploads]]:
    """Uploads of a container block. Where a record cannot be read, it is unknown where the next one
    begins: the bad record and the rest of the block are one dead letter."""
    writer = block.writer
    record = writer if isinstance(writer, dict) and writer.get("type") == "record" else {}
    message_type = avro.message_type_of(record)
    limit = decoder.bounds.max_dead_letter_bytes
    if message_type is None:
        refusal = Refusal(0, "UNKNOWN_TYPE", f"record {record.get('name')} is no message")
        return Outcome(
            [], dead_letters(_raw_batch(block, [block.data]), [refusal], "DECODE", limit)
        )
    reason = unfit(writer)
    if reason is not None:
        refusal = Refusal(0, "BAD_AVRO", reason)
        return Outcome(
            [], dead_letters(_raw_batch(block, [block.data]), [refusal], "DECODE", limit)
        )
    items = _native(block)
    if items is not None:
        raw = _raw_batch(block, [b""] * block.count)
        whole = avro_uploads(np.arange(block.count), items, raw, message_type, decoder)
        outcome = finish(*whole, raw, decoder)
        if not outcome.dead.num_rows:
            return outcome
    return _decode_records(block, message_type, decoder)


def _decode_records(
    block: ContainerBlock, message_type: str, decoder: Decoder
) -> Outcome[list[Uploads]]:
    """Uploads of a container block whose records are taken apart first, each with its bytes."""
    values, rest, reason = _datums(block)
    lost = bool(rest) or len(values) < block.count
    raw = _raw_batch(block, [*values, rest] if lost else values)
    bodies = avro.Bodies(np.arange(len(values)), values, 0)
    done: list[tuple[np.ndarray, pa.StructArray]] = []
    refusals: list[Refusal] = []
    if values:
        done, refusals = avro.decode_bodies(bodies, json.dumps(block.writer))
    parts: list[Part] = []
    for rows, records in done:
        part, lacking = avro_uploads(rows, records, raw, message_type, decoder)
        parts += part
        refusals += lacking
    if lost:
        refusals.append(Refusal(len(values), "BAD_AVRO", reason))
    return finish(parts, refusals, raw, decoder)
