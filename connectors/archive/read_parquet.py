"""Archive objects that are Parquet, ours and those of others: raw batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.archive.names import ArchiveObject, BrokenObject
from connectors.storage.folder import Folder
from connectors.storage.random_reads import RandomReads, random_reads
from schemas.arrow import UTC_MS
from transforms.model import raw_messages

BATCH_ROWS = 16_384
BATCH_BYTES = 8 << 20
"""A batch holds at most so many rows and, unless one message alone is larger, about so many bytes,
however well they are packed in the object."""
FEWEST_ROWS = 64
NEEDED = ("topic", "partition", "offset", "value")
_DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError)
_DICTIONARY = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}


def read_parquet(topics: Folder, one: ArchiveObject) -> Iterator[pa.RecordBatch]:
    """Raw batches of an object, in order.

    Raises BrokenObject where its bytes are damaged, DependencyFailed where the store did not
    deliver them."""
    with random_reads(topics, one.name) as source:
        parquet = _opened(source)
        line = 0
        batches = _batches(parquet)
        while True:
            try:
                batch = next(batches, None)
            except _DAMAGE as error:
                source.raise_failure()
                raise BrokenObject(f"damaged after {line} rows: {error}") from None
            if batch is None:
                return
            yield _raw(batch, one, line)
            line += batch.num_rows


def _opened(source: RandomReads) -> pq.ParquetFile:
    try:
        parquet = pq.ParquetFile(source)
        packed = _packed(parquet)
        if packed:
            parquet = pq.ParquetFile(source, read_dictionary=packed)
    except _DAMAGE as error:
        source.raise_failure()
        raise BrokenObject(f"not readable as Parquet: {error}") from None
    missing = set(NEEDED) - set(parquet.schema_arrow.names)
    if missing:
        raise BrokenObject(f"lacks the columns {sorted(missing)}")
    return parquet


def _packed(parquet: pq.ParquetFile) -> list[str]:
    """Columns of texts or bytes in which a value is stored once for many rows: read as they are
    stored, since nothing else says how large they are unpacked."""
    names = []
    for field in parquet.schema_arrow:
        is_bytes = pa.types.is_binary(field.type) or pa.types.is_string(field.type)
        if is_bytes and parquet.schema_arrow.names.count(field.name) == 1:
            chunks = _chunks_of(parquet, field.name)
            if any(_DICTIONARY & set(chunk.encodings) for chunk in chunks):
                names.append(field.name)
    return names


def _chunks_of(parquet: pq.ParquetFile, column: str) -> list[pq.ColumnChunkMetaData]:
    groups = [parquet.metadata.row_group(at) for at in range(parquet.metadata.num_row_groups)]
    chunks = [group.column(at) for group in groups for at in range(group.num_columns)]
    return [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] == column]


def _batches(parquet: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """All rows with the columns of a raw batch, the packed ones still packed."""
    wanted = [name for name in raw_messages.SCHEMA.names if name in parquet.schema_arrow.names]
    for group in range(parquet.metadata.num_row_groups):
        rows = _rows_a_batch(parquet.metadata.row_group(group))
        for batch in parquet.iter_batches(rows, row_groups=[group], columns=wanted):
            yield from _cut(batch)


def _rows_a_batch(group: pq.RowGroupMetaData) -> int:
    """Rows of which BATCH_BYTES can be expected. Bytes within lists are unpacked by the reader:
    where they are packed, each may be as large as all that are stored."""
    if not group.num_rows:
        return BATCH_ROWS
    size = 0.0
    for at in range(group.num_columns):
        chunk = group.column(at)
        nested = "." in chunk.path_in_schema and _DICTIONARY & set(chunk.encodings)
        size += chunk.total_uncompressed_size / (1 if nested else group.num_rows)
    return int(np.clip(BATCH_BYTES / max(size, 1), FEWEST_ROWS, BATCH_ROWS))


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in parts of at most BATCH_BYTES, or of one row, once unpacked."""
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        sizes += _sizes(column)
    part = (np.cumsum(sizes) - sizes) // BATCH_BYTES if sizes.sum() > BATCH_BYTES else sizes * 0
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    for start, end in zip(starts, [*starts[1:], batch.num_rows], strict=True):
        yield batch.slice(start, end - start)


def _sizes(column: pa.Array) -> np.ndarray | int:
    """int64 of shape (rows,): bytes of the values of a column of texts or bytes; 0 of others."""
    if isinstance(column, pa.DictionaryArray):
        lengths = _sizes(column.dictionary)
        at = np.asarray(column.indices.fill_null(0))
        return lengths[at] if isinstance(lengths, np.ndarray) and len(lengths) else 0
    if pa.types.is_binary(column.type) or pa.types.is_string(column.type):
        return np.asarray(pc.binary_length(column).fill_null(0), np.int64)
    return 0


def _raw(batch: pa.RecordBatch, one: ArchiveObject, line: int) -> pa.RecordBatch:
    count = batch.num_rows
    columns = {
        "object": raw_messages.constant(one.name, count, pa.string()),
        "line": pa.array(np.arange(line, line + count, dtype=np.int64)),
        "arrival_hour": raw_messages.constant(one.hour_ms, count, UTC_MS),
        "is_line": raw_messages.constant(False, count, pa.bool_()),
    }
    arrays = []
    for field in raw_messages.SCHEMA:
        column = columns.get(field.name)
        if column is None and field.name in batch.schema.names:
            column = _as_raw(batch.column(batch.schema.names.index(field.name)), field)
        arrays.append(pa.nulls(count, field.type) if column is None else column)
    places = {"topic": one.topic, "partition": one.partition}
    for at, name in enumerate(raw_messages.SCHEMA.names):
        if name in places and arrays[at].null_count:
            arrays[at] = arrays[at].fill_null(places[name])
    return pa.RecordBatch.from_arrays(arrays, schema=raw_messages.SCHEMA)


def _as_raw(column: pa.Array, field: pa.Field) -> pa.Array | None:
    """A column of the archive as the type of a raw batch. Where it cannot be: BrokenObject for one
    that is needed, None for any other."""
    kind = column.type
    try:
        if isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        if pa.types.is_timestamp(field.type):
            column = column.cast(pa.timestamp("ms"), safe=False)
        if pa.types.is_map(field.type) and pa.types.is_list(kind):
            return _as_map(column, field.type)
        if field.name == "key" and pa.types.is_integer(kind):
            column = column.cast(pa.string())
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if field.name not in NEEDED:
            return None
        raise BrokenObject(f"column {field.name} of type {kind}: {error}") from None


def _as_map(lists: pa.ListArray, wanted: pa.MapType) -> pa.Array:
    """Headers that others write as lists of a key and a value."""
    pairs = lists.flatten()
    if not pa.types.is_struct(pairs.type) or pairs.type.num_fields != 2:
        raise pa.ArrowInvalid("no list of pairs")
    keys, values = pairs.flatten()
    if keys.null_count:
        raise pa.ArrowInvalid("a header without a key")
    lengths = np.asarray(pc.list_value_length(lists).fill_null(0))
    offsets = pa.array(np.append(0, np.cumsum(lengths)).astype(np.int32))
    return pa.MapArray.from_arrays(
        offsets, keys.cast(wanted.key_type), values.cast(wanted.item_type)
    )
