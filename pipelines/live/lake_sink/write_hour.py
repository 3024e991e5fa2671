"""Vehicle minutes of the live lake: an hour is one object, in which every minute stands once.

What its topic says of minutes waits by hour and is laid over the hour's object as a whole: the last
word on a minute counts, and writing it again changes nothing.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.lake.names import object_of
from connectors.lake.write import aligned, parquet_bytes
from connectors.storage.folder import unless_changed
from pipelines.backfill.spec import BackfillSpec
from schemas.arrow import record_schema
from transforms.encode.read_vehicle_minutes import Minutes
from transforms.encode.topic_messages import minute_keys
from transforms.model.arrow_numpy import filled_int64
from transforms.model.raw_messages import SCHEMA as RAW

MINUTES = record_schema("vehicle_minute")
FRESH_MS = 2 * 3_600_000
"""A minute recorded so soon makes its hour grow; what comes later corrects it."""
_END = 2**31 - 1
_MINUTE, _MINUTE_LENGTH = "%Y-%m-%dT%H:%MZ", 17
_PLACE = np.dtype([("partition", "<i4"), ("offset", "<i8")])


def texts(keys: pa.BinaryArray) -> pa.StringArray:
    """Keys of records as texts, in which what is not UTF-8 is replaced."""
    try:
        return keys.cast(pa.string()).fill_null("")
    except pa.ArrowInvalid:
        return pa.array([(key or b"").decode("utf-8", "replace") for key in keys.to_pylist()])


def minutes_of(keys: pa.Array) -> pa.Array:
    """int64 epoch ms of the minutes that keys (text, `topic_messages.minute_keys`) name; null
    for what is no key."""
    times = pc.utf8_slice_codeunits(keys, -_MINUTE_LENGTH, _END)
    marked = pc.equal(pc.utf8_slice_codeunits(keys, -_MINUTE_LENGTH - 1, -_MINUTE_LENGTH), "|")
    minutes = pc.strptime(times, format=_MINUTE, unit="ms", error_is_null=True)
    return pc.if_else(marked, minutes.cast(pa.int64()), None)


def pack(raw: pa.RecordBatch) -> pa.BinaryArray:
    """Records as bytes that remember their place; nothing follows it where a minute is emptied."""
    places = np.zeros(raw.num_rows, _PLACE)
    places["partition"] = np.asarray(raw.column("partition"))
    places["offset"] = np.asarray(raw.column("offset"))
    width = pa.binary(_PLACE.itemsize)
    buffers = [None, pa.py_buffer(places.tobytes())]
    heads = pa.Array.from_buffers(width, raw.num_rows, buffers).cast(pa.binary())
    values = raw.column("value").fill_null(b"")
    return pc.binary_join_element_wise(heads, values, pa.scalar(b"", pa.binary()))


def unpack(keys: pa.Array, packed: pa.BinaryArray, topic: str) -> pa.RecordBatch:
    """The same as a `numbered` raw batch."""
    count = len(keys)
    heads = b"".join(pc.binary_slice(packed, 0, _PLACE.itemsize).to_pylist())
    places = np.frombuffer(heads, _PLACE)
    values = pc.binary_slice(packed, _PLACE.itemsize, _END)
    columns = {
        "topic": pa.repeat(pa.scalar(topic), count),
        "partition": pa.array(np.ascontiguousarray(places["partition"])),
        "offset": pa.array(np.ascontiguousarray(places["offset"])),
        "line": pa.array(np.arange(count)),
        "key": keys.cast(pa.binary()),
        "value": pc.if_else(pc.equal(values, b""), None, values),
        "is_line": pa.repeat(pa.scalar(False), count),
    }
    arrays = [columns[f.name] if f.name in columns else pa.nulls(count, f.type) for f in RAW]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW)


def grows(raw: pa.RecordBatch, minute_ms: np.ndarray) -> np.ndarray:
    """bool of shape (records,): recorded while its hour was fresh."""
    return np.asarray(filled_int64(raw.column("timestamp"), 0) - minute_ms < FRESH_MS)


def write_hour(job: BackfillSpec, hour: int, minutes: Minutes) -> int:
    """Lay minutes over the object of a local hour; returns how many it holds then. Raises
    DependencyFailed, also where others write it again and again."""
    name = object_of(hour)

    def lay() -> int:
        found = job.tables.read_version(name)
        data, version = found or (None, None)
        table = laid_over(None if data is None else pq.read_table(pa.BufferReader(data)), minutes)
        if table.num_rows:
            job.tables.replace(name, parquet_bytes(table), version)
        else:
            job.tables.delete(name)
        return int(table.num_rows)

    return unless_changed(f"{job.tables.uri}/{name}", lay)


def laid_over(before: pa.Table | None, minutes: Minutes) -> pa.Table:
    """The minutes of an hour by vehicle and minute, where `minutes` is the last word."""
    facts = minutes.facts.select(MINUTES.names)
    parts = [facts]
    if before is not None:
        keys = [minute_keys(facts), minute_keys(minutes.emptied)]
        replaced = pc.is_in(minute_keys(before), value_set=pa.concat_arrays(keys))
        parts.append(aligned(before.filter(pc.invert(replaced)), MINUTES))
    table = pa.concat_tables(parts, promote_options="default")
    return table.sort_by([("vehicle_id", "ascending"), ("minute", "ascending")])
