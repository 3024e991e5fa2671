"""Minute partials as bytes, for the state of live jobs.

All packed partials have the same width: a word of bits (which fields are present), then every field
of `PARTIALS` that is a number, in the order of the schema, little-endian. Texts (the keys) are kept
beside them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.arrow import UTC_MS
from transforms.encode.avro import joined
from transforms.facts.vehicle_minutes import PARTIALS
from transforms.model.arrow_numpy import filled_int64, single

KEYS = ("message_id", "device_no", "vehicle_id", "minute")
_FIELDS = tuple(field for field in PARTIALS if field.name not in KEYS)
_PRESENT = "present"


def _stored(kind: pa.DataType) -> str:
    if pa.types.is_floating(kind):
        return f"<f{kind.bit_width // 8}"
    return "<i4" if kind == pa.int32() else "<i8"


ROW = np.dtype([(_PRESENT, "<u8"), *((field.name, _stored(field.type)) for field in _FIELDS)])
"""Bit i of `present` says whether field i is not null."""

PART = np.dtype([("minute", "<i8"), ("vehicle_id", "<i4"), ("partial", "<i4")])
"""The head of each part of an upload: its minute (epoch ms) and the sizes in bytes of the
vehicle_id and of the packed partial, which follow it."""


def pack(partials: pa.RecordBatch) -> pa.BinaryArray:
    """The numbers of partials (`PARTIALS`) as bytes of width `ROW.itemsize`."""
    count = partials.num_rows
    rows = np.zeros(count, ROW)
    present = np.zeros(count, np.uint64)
    for bit, field in enumerate(_FIELDS):
        column = partials.column(field.name)
        if column.null_count == count:
            continue
        mask = np.uint64(1 << bit)
        present |= np.where(np.asarray(column.is_valid()), mask, np.uint64(0))
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        rows[field.name] = np.asarray(column.fill_null(0) if column.null_count else column)
    rows[_PRESENT] = present
    offsets = np.arange(count + 1, dtype=np.int32) * ROW.itemsize
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(rows)]
    return pa.Array.from_buffers(pa.binary(), count, buffers)


def unpack(packed: pa.BinaryArray, keys: dict[str, pa.Array]) -> pa.Table:
    """Partials (`PARTIALS`) out of packed bytes and the columns `KEYS`, all of shape (rows,).

    Raises ValueError when the bytes do not have the width of this version.
    """
    count = len(packed)
    ends = np.frombuffer(packed.buffers()[1], np.int32)[packed.offset : packed.offset + count + 1]
    if count and (np.diff(ends) != ROW.itemsize).any():
        raise ValueError(
            f"partials of {int(ends[1] - ends[0])} bytes, expected {ROW.itemsize}: they were kept "
            "by a version with other fields of a vehicle minute"
        )
    data = np.frombuffer(packed.buffers()[2], np.uint8) if count else np.empty(0, np.uint8)
    rows = data[int(ends[0]) if count else 0 :][: count * ROW.itemsize].view(ROW)
    present = rows[_PRESENT]
    columns = {name: single(column) for name, column in keys.items()}
    for bit, field in enumerate(_FIELDS):
        absent = (present & np.uint64(1 << bit)) == 0
        values = pa.array(np.ascontiguousarray(rows[field.name]), mask=absent)
        if pa.types.is_timestamp(field.type):
            values = values.cast(pa.timestamp("ms")).cast(UTC_MS)
        columns[field.name] = values
    return pa.Table.from_arrays([columns[name] for name in PARTIALS.names], schema=PARTIALS)


def parts(partials: pa.RecordBatch | pa.Table, message_id: pa.Array) -> pa.BinaryArray:
    """What uploads add to minutes, as bytes of shape (message ids,): all parts of the upload one
    after another (each `PART`, vehicle_id, packed partial), empty where it adds nothing. Where a
    message id comes more than once, the first has the parts."""
    packed, count = pack(partials), partials.num_rows
    vehicle_id = single(partials.column("vehicle_id")).cast(pa.binary())
    heads = np.empty(count, PART)
    heads["minute"] = filled_int64(partials.column("minute"), 0)
    heads["vehicle_id"] = np.asarray(pc.binary_length(vehicle_id))
    heads["partial"] = ROW.itemsize
    head = pa.Array.from_buffers(pa.binary(PART.itemsize), count, [None, pa.py_buffer(heads)])
    of = np.asarray(pc.index_in(single(partials.column("message_id")), message_id), np.int64)
    order = pa.array(np.argsort(of, kind="stable"))
    whole = joined(head.cast(pa.binary()), vehicle_id, packed).take(order)
    ends = np.append(0, np.cumsum(np.bincount(of, minlength=len(message_id))))
    at = np.frombuffer(whole.buffers()[1], np.int32, count + 1, 4 * whole.offset)
    buffers = [None, pa.py_buffer(at[ends].copy()), whole.buffers()[2]]
    return pa.Array.from_buffers(pa.binary(), len(message_id), buffers)
