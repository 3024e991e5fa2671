"""Uploads with the vehicle they belonged to, as records of vehicle topics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.kafka import topics
from connectors.operations_db.refresh import Snapshot
from pipelines.live.kafka_records import NO_RECORDS, OUT_RECORD, copies, out_records
from transforms.bindings.bindings import UNBOUND
from transforms.decode.avro import WriterSchemas, message_type_of
from transforms.encode.topic_messages import (
    append_vehicle,
    appendable,
    appendable_rows,
    dead_letter_keys,
    encode_dead_letters,
    encode_uploads,
)
from transforms.live.lone_verdict import newest_event_ms
from transforms.model.thresholds import Rules
from transforms.model.uploads import Uploads

Placed = tuple[np.ndarray, pa.RecordBatch]
"""Records to write (`OUT_RECORD`), and int64 of shape (records,): the line each came from."""


def vehicle_records(
    uploads: Uploads,
    raw: pa.RecordBatch,
    snapshot: Snapshot,
    rules: Rules,
    schema_id: int,
    writers: WriterSchemas,
) -> list[Placed]:
    """The uploads for their vehicle topic, and those of no vehicle for the unbound topic too.

    An upload belongs to the vehicle its terminal sat in when its newest sample was taken.
    """
    lines = np.asarray(uploads.head.column("line"))
    records = raw.take(pa.array(lines))
    device_no = uploads.head.column("device_no")
    bindings = snapshot.bindings
    change = bindings.change_at(bindings.find(device_no), newest_event_ms(uploads, rules))
    vehicle = bindings.vehicle_of(change)
    vehicle_id = bindings.vehicles.take(pa.array(vehicle, mask=vehicle < 0))
    values = _values(uploads, records, snapshot.vehicles.encoded(change), schema_id, writers)
    enriched = out_records(
        topics.vehicle_topic(uploads.message_type),
        records.column("timestamp").cast(pa.int64()),
        pc.coalesce(vehicle_id, device_no).cast(pa.binary()),
        values,
    )
    lost = lines[vehicle == UNBOUND]
    return [(lines, enriched), (lost, copies(raw, lost, topics.UNBOUND, "unbound"))]


def _values(
    uploads: Uploads,
    records: pa.RecordBatch,
    tails: pa.BinaryArray,
    schema_id: int,
    writers: WriterSchemas,
) -> pa.BinaryArray:
    """Appended to the bytes that came where those may stay, else encoded anew."""
    values = records.column("value")
    appended = _ours(values, uploads.message_type, writers)
    if appended.any():
        appended &= appendable_rows(values, uploads)
    if appended.all():
        return append_vehicle(values, tails, schema_id)
    if not appended.any():
        return encode_uploads(uploads, tails, schema_id)
    kept, anew = pa.array(appended), pa.array(~appended)
    both = [
        append_vehicle(values.filter(kept), tails.filter(kept), schema_id),
        encode_uploads(uploads.keep(~appended), tails.filter(anew), schema_id),
    ]
    at = np.where(appended, np.cumsum(appended), appended.sum() + np.cumsum(~appended)) - 1
    return pa.concat_arrays(both).take(pa.array(at))


def _ours(values: pa.BinaryArray, message_type: str, writers: WriterSchemas) -> np.ndarray:
    """bool of shape (uploads,): Avro of exactly our schema of the message type."""
    heads = pc.binary_slice(values, 0, 5).dictionary_encode()
    known = []
    for head in heads.dictionary.to_pylist():
        avro = len(head) == 5 and head[0] == 0
        writer = writers.lookup(int.from_bytes(head[1:], "big")) if avro else None
        known.append(
            writer is not None
            and message_type_of(writer) == message_type
            and appendable(writer, message_type)
        )
    return np.asarray(np.array(known, bool)[np.asarray(heads.indices)])


def dead_records(dead: pa.Table, schema_id: int) -> Placed:
    """Dead letters for their topic."""
    if not dead.num_rows:
        return np.empty(0, np.int64), NO_RECORDS
    letters = dead.combine_chunks().to_batches()[0]
    records = out_records(
        topics.DEAD_LETTERS,
        letters.column("received_time").cast(pa.int64()),
        dead_letter_keys(letters),
        encode_dead_letters(letters, schema_id),
    )
    return np.asarray(letters.column("source_offset").fill_null(0)), records


def by_line(parts: Sequence[Placed]) -> pa.RecordBatch:
    """All records in the order of their lines, so that each terminal keeps its order."""
    table = pa.Table.from_batches([records for _, records in parts], OUT_RECORD)
    if not table.num_rows:
        return NO_RECORDS
    order = np.argsort(np.concatenate([lines for lines, _ in parts]), kind="stable")
    return table.take(pa.array(order)).combine_chunks().to_batches()[0]
