"""What is inside an archive object: exact records in the order of their offsets, as Parquet, and
how more of them are joined to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.model import raw_messages
from transforms.model.arrow_numpy import filled_int64, single

COLUMNS = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")
SCHEMA = pa.schema(
    [raw_messages.SCHEMA.field(name).with_nullable(name not in COLUMNS[:3]) for name in COLUMNS]
)
"""A record as it is archived: its place is always known."""

GROUP_ROWS, GROUP_BYTES = 5_000, 16 << 20
"""A row group ends at so many rows or, unless one alone is larger, bytes."""


class OtherRecords(Exception):
    """An object holds other records at the same offsets: names the first of them."""


class MissingRecords(Exception):
    """An object does not hold records that it must: names their offsets."""


def encode(rows: pa.Table) -> pa.Buffer:
    """An object of records (`SCHEMA`, offsets ascending); its bytes are a function of them."""
    return _written([rows])


def joined(stored: bytes | pa.Buffer | None, rows: pa.Table, due: np.ndarray) -> pa.Buffer | None:
    """An object (None: there is none yet) with its records and those of `rows` (`SCHEMA`, offsets
    ascending) that it has not; None where it has all. `due`: bool, shape (rows,), those that it
    must have.

    Raises OtherRecords where a record differs from the stored one of the same offset in its time
    stamp, MissingRecords where one of `due` is not there, pa.ArrowInvalid or OSError where
    `stored` is no such object.
    """
    given = _numbers(rows, "offset")
    if stored is None:
        _expect(given[due])
        return encode(rows)
    file = pq.ParquetFile(pa.BufferReader(stored))
    known = file.read(columns=["offset", "timestamp"])
    have = _numbers(known, "offset")
    if not len(have):
        return joined(None, rows, due)
    at = np.searchsorted(have, given)
    inside = np.minimum(at, len(have) - 1)
    same = have[inside] == given
    _compare(known, rows, inside, same)
    _expect(given[due & ~same])
    if same.all():
        return None
    new = rows.filter(pa.array(~same)) if same.any() else rows
    return _written(_pieces(file, new, at[~same]))


def _compare(known: pa.Table, rows: pa.Table, at: np.ndarray, same: np.ndarray) -> None:
    stamps, given = _numbers(known, "timestamp")[at], _numbers(rows, "timestamp")
    other = np.flatnonzero(same & (stamps != given))
    if len(other):
        row = int(other[0])
        raise OtherRecords(
            f"offset {_numbers(rows, 'offset')[row]} has the time stamp {given[row]}, and"
            f" {stamps[row]} in the archive"
        )


def _expect(absent: np.ndarray) -> None:
    if len(absent):
        raise MissingRecords(f"{len(absent)} records of offsets {absent[0]} to {absent[-1]}")


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    return filled_int64(single(table[name]), 0)


def _pieces(file: pq.ParquetFile, new: pa.Table, at: np.ndarray) -> Iterator[pa.Table]:
    """The records of both in order; `at` says before which stored record each new one comes."""
    first = taken = 0
    for number in range(file.num_row_groups):
        group = file.read_row_group(number, use_threads=False).cast(SCHEMA)
        begin, end = 0, group.num_rows
        within = at[(at >= first) & (at < first + end)]
        for place in np.unique(within).tolist():
            count = int((within == place).sum())
            yield group.slice(begin, place - first - begin)
            yield new.slice(taken, count)
            begin, taken = place - first, taken + count
        yield group.slice(begin)
        first += end
    yield new.slice(taken)


def _written(pieces: Iterable[pa.Table]) -> pa.Buffer:
    stream = pa.BufferOutputStream()
    plain = dict.fromkeys(("offset", "timestamp"), "DELTA_BINARY_PACKED")
    with pq.ParquetWriter(
        stream,
        SCHEMA,
        compression="zstd",
        use_dictionary=["topic", "partition", "key"],
        column_encoding=plain,
        write_statistics=["offset", "timestamp"],
        store_schema=False,
    ) as writer:
        for group in _groups(pieces):
            writer.write_table(group, row_group_size=group.num_rows)
    return stream.getvalue()


def _groups(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Row groups: where they end depends on the records alone, not on how they came."""
    waiting: list[pa.Table] = []
    rows = size = 0
    for piece in pieces:
        ends = np.cumsum(_sizes(piece))
        begin = 0
        while begin < piece.num_rows:
            before = int(ends[begin - 1]) if begin else 0
            fits = int(np.searchsorted(ends, before + GROUP_BYTES - size, side="right"))
            end = min(fits if rows else max(fits, begin + 1), begin + GROUP_ROWS - rows)
            if end > begin:
                waiting.append(piece.slice(begin, end - begin))
                rows, size = rows + end - begin, size + int(ends[end - 1]) - before
            if end < piece.num_rows:
                yield pa.concat_tables(waiting)
                waiting, rows, size = [], 0, 0
            begin = end
    if rows:
        yield pa.concat_tables(waiting)


def _sizes(rows: pa.Table) -> np.ndarray:
    """int64 of shape (rows,): bytes of keys and values."""
    keys, values = (pc.binary_length(rows[name]) for name in ("key", "value"))
    sizes: np.ndarray = filled_int64(keys, 0) + filled_int64(values, 0)
    return sizes


def old_lines(stored: bytes | pa.Buffer) -> Iterator[tuple[pa.Buffer, int]]:
    """The values of an object as lines of the old layout, and how many are none: absent ones,
    those that hold a line's end, and those that are no text (Avro behind a registry's id)."""
    file = pq.ParquetFile(pa.BufferReader(stored))
    for number in range(file.num_row_groups):
        values = single(file.read_row_group(number, columns=["value"], use_threads=False)["value"])
        bad = pc.or_kleene(
            pc.match_substring(values, "\n"), pc.starts_with(values, "\0")
        ).fill_null(True)
        lines = values.filter(pc.invert(bad))
        yield _text(lines), len(values) - len(lines)


def _text(lines: pa.BinaryArray) -> pa.Buffer:
    ends = pa.repeat(pa.scalar(b"\n"), len(lines))
    whole = pc.binary_join_element_wise(lines, ends, b"")
    if not len(whole):
        return pa.py_buffer(b"")
    offsets = np.frombuffer(whole.buffers()[1], np.int32)[whole.offset :]
    data: pa.Buffer = whole.buffers()[2]
    return data.slice(int(offsets[0]), int(offsets[len(whole)] - offsets[0]))
