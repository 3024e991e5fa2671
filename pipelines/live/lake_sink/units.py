"""Units of work that are written whole, as stages and the Java side hand them to each other:
blocks of device topics, and hours of vehicle minutes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.archive.names import OffsetBlock, arrival_hours, object_name
from pipelines.live.flink.arrow_blocks import read_block
from schemas.layouts import layout
from transforms.model.arrow_numpy import filled_int64

UNIT_ROWS = layout("unit_change")
"""Changes of units that are written whole: blocks, or hours of minutes. Without an item a row
says how far its unit reaches."""
UNIT = layout("unit_due")
"""A unit that is due: a row without item, then its items."""
MARK = "|"


def progress(raw: pa.RecordBatch, size: int, flush_size: int) -> pa.RecordBatch:
    """`UNIT_ROWS`: how far each block of `size` offsets reaches by a raw batch of device topics; it
    shall be written soon where it is full, or passes a multiple of `flush_size`."""
    offsets = filled_int64(raw.column("offset"), 0)
    units = joined(raw.column("topic"), raw.column("partition"), offsets // size * size)
    encoded = units.dictionary_encode()
    at = np.asarray(encoded.indices)
    ends = np.zeros(len(encoded.dictionary), np.int64)
    np.maximum.at(ends, at, offsets + 1)
    firsts = ends.copy()
    np.minimum.at(firsts, at, offsets)
    full = (ends % size == 0) | (ends // flush_size > firsts // flush_size)
    nothing = pa.nulls(len(ends), pa.string())
    return unit_rows(encoded.dictionary, ends, full, True, nothing, nothing)


def objects_of(rows: pa.RecordBatch, size: int, zone: str) -> pa.Array:
    """Names of the archive objects of rows (topic, partition, offset, timestamp)."""
    starts = filled_int64(rows.column("offset"), 0) // size * size
    hours = arrival_hours(filled_int64(rows.column("timestamp"), 0), zone)
    encoded = joined(rows.column("topic"), rows.column("partition"), starts, hours)
    encoded = encoded.dictionary_encode()
    names = []
    for text in encoded.dictionary.to_pylist():
        unit, _, hour = text.rpartition(MARK)
        names.append(object_name(block_of(unit, 0), int(hour)))
    return pa.array(names, pa.string()).take(encoded.indices)


def block_of(unit: str, end: int) -> OffsetBlock:
    """The block that a unit's name stands for, up to `end`."""
    topic, partition, start = unit.rsplit(MARK, 2)
    return OffsetBlock(topic, int(partition), int(start), end, int(start))


def joined(*columns: pa.Array | np.ndarray) -> pa.Array:
    texts = [pa.array(column).cast(pa.string()) for column in columns]
    return pc.binary_join_element_wise(*texts, MARK)


def unit_rows(
    unit: pa.Array,
    end: np.ndarray,
    full: np.ndarray,
    grows: np.ndarray | bool,
    item: pa.Array,
    value: pa.Array,
) -> pa.RecordBatch:
    """`UNIT_ROWS` of columns."""
    flags = [np.broadcast_to(flag, len(unit)).astype(np.int8) for flag in (full, grows)]
    columns = [unit, end, *flags, item, value.cast(pa.binary())]
    return pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=UNIT_ROWS)


def due(block: bytes) -> tuple[str, int, pa.RecordBatch]:
    """A unit that is due: its name, its end, and its items (columns item and value)."""
    rows = read_block(block, UNIT)
    items = rows.filter(rows.column("item").is_valid()).select(["item", "value"])
    return rows.column("unit")[0].as_py(), rows.column("end")[0].as_py(), items
