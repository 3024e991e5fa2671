"""Lines of JSON to columns in one native call a batch, and which lines were refused.

`pyarrow.json` parses a whole batch against the expected schema. A line that does not match the
schema (wrong type, unknown key, a key twice, two objects on one line, …) makes it refuse the batch;
such lines are found by its messages and by cutting the batch.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from transforms.model.thresholds import Bounds

SMALLEST_CUT_BYTES = 2048
CUTS = 8
_BRACE, _OPEN, _COMMA, _COLON, _NEWLINE, _SPACE = b"{[,:\n "
_MAY_PRECEDE_OBJECT = np.zeros(256, bool)
_MAY_PRECEDE_OBJECT[[_OPEN, _COMMA, _COLON, _NEWLINE]] = True


def suspicious_lines(values: pa.Array, bounds: Bounds) -> np.ndarray:
    """bool of shape (lines,): lines that must not reach the native parser.

    Empty or oversize lines, those that are not one object on one line, and those with more
    objects than an upload may have samples. The parser reads objects, not lines: unless every
    line is one object, its rows would shift against the lines.
    """
    offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset :][: len(values) + 1]
    data = np.frombuffer(values.buffers()[2], np.uint8)[: offsets[-1]]
    starts, ends = offsets[:-1].astype(np.int64), offsets[1:].astype(np.int64)
    bad = np.asarray(values.is_null()) | (ends - starts < 2)
    if bad.all():
        return bad
    last = np.maximum(ends - 1, 0)
    last -= data[last] == _NEWLINE
    last -= data[np.maximum(last, 0)] == 13
    bad |= (last - starts + 1 > bounds.max_message_bytes) | (last <= starts)
    bad |= (data[np.minimum(starts, len(data) - 1)] != _BRACE) | (data[np.maximum(last, 0)] != 125)
    braces = np.flatnonzero(data == _BRACE)
    counts = np.diff(np.searchsorted(braces, offsets))
    bad |= counts > bounds.max_samples + 2 * bounds.max_nesting
    before = data[braces - 1]
    odd = braces[~_MAY_PRECEDE_OBJECT[before]]
    odd = odd[(data[odd - 1] != _SPACE) | ~_MAY_PRECEDE_OBJECT[data[odd - 2]]]
    if len(odd):
        odd = odd[~np.isin(odd, starts)]
        bad[np.searchsorted(offsets, odd, side="right") - 1] = True
    newlines = np.flatnonzero(data[offsets[0] :] == _NEWLINE) + offsets[0]
    if not np.array_equal(newlines, ends - 1):
        inner = newlines[~np.isin(newlines, ends - 1)]
        bad[np.searchsorted(offsets, inner, side="right") - 1] = True
    return bad


def _text(values: pa.Array) -> pa.Buffer:
    offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset :][: len(values) + 1]
    data = values.buffers()[2]
    ends = np.frombuffer(data, np.uint8)[offsets[1:-1] - 1]
    if (ends == _NEWLINE).all():
        return data.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    return pa.py_buffer(b"\n".join(values.to_pylist()))


def _read(text: pa.Buffer, schema: pa.Schema, unexpected: str = "error") -> pa.Table:
    size = max(text.size + 1, 1 << 16)
    table = pj.read_json(
        pa.BufferReader(text),
        read_options=pj.ReadOptions(use_threads=False, block_size=size),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
    )
    table.validate(full=True)  # the parser lets text through that is not UTF-8
    return table


_REFUSED = (pa.ArrowInvalid, UnicodeDecodeError)


def parse_lines(values: pa.Array, schema: pa.Schema) -> tuple[pa.Table | None, np.ndarray]:
    """The lines that the native parser accepts, and bool of shape (lines,): the refused ones.

    The table has the accepted lines in their order; it is None when there are none.
    """
    if not len(values):
        return None, np.zeros(0, bool)
    try:
        table = _read(_text(values), schema)
        if table.num_rows == len(values):
            return table, np.zeros(len(values), bool)
    except _REFUSED:
        pass
    refused = _locate(values, schema)
    rest = np.flatnonzero(~refused)
    table, cut = _cut(values.take(pa.array(rest)), schema)
    refused[rest[cut]] = True
    return table, refused


def _locate(values: pa.Array, schema: pa.Schema) -> np.ndarray:
    """bool of shape (lines,): lines with unknown keys, and lines that the parser's error messages
    name. Not all bad lines are found this way, so the others are parsed again afterwards; where
    most lines are bad, all lines behind them count as bad. Nothing about a line is inferred from
    other lines, so a sender's faults cost other senders nothing."""
    bad = _many_brackets(values) | unknown_keys(values, schema)
    lines = np.flatnonzero(~bad)
    rest = values.take(pa.array(lines))
    start = hits = 0
    while start < len(rest) and hits < HITS:
        try:
            _read(_text(rest.slice(start)), schema, "ignore")
            break
        except _REFUSED as error:
            row = _ROW.search(str(error))
            if row is None or start + int(row[1]) >= len(rest):
                break
            start += int(row[1]) + 1
            hits += 1
            bad[lines[start - 1]] = True
    if hits == HITS and hits * 4 > start:
        bad[lines[start:]] = True
    return np.asarray(bad)


HITS = 64
_ROW = re.compile(r"in row (\d+)$")
BRACKETS = 2000


def _many_brackets(values: pa.Array) -> np.ndarray:
    """bool of shape (lines,): lines with so many arrays that the parser could exhaust its stack."""
    counts = pc.count_substring(values, b"[")
    return np.asarray(pc.greater(counts, BRACKETS).fill_null(True))


SCAN_BYTES = 1 << 20
_QUOTE, _BACKSLASH = b'"\\'
_BASE = np.uint64(0x9E3779B97F4A7C15)
_BASE_INVERSE = np.uint64(pow(int(_BASE), -1, 1 << 64))


def unknown_keys(values: pa.Array, schema: pa.Schema) -> np.ndarray:
    """bool of shape (lines,): lines with a key that the schema names on no level. Keys are
    compared by hash, in one pass over the bytes and `SCAN_BYTES` (or one line) at a time. A key
    that is written with escapes may be taken for another one."""
    known = _known_keys(schema)
    hit = np.zeros(len(values), bool)
    offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset :][: len(values) + 1]
    data = np.frombuffer(values.buffers()[2], np.uint8)
    start = 0
    while start < len(values):
        behind = int(np.searchsorted(offsets, offsets[start] + SCAN_BYTES, side="right")) - 1
        end = min(max(behind, start + 1), len(values))
        keys, hashes = _keys(data[offsets[start] : offsets[end]])
        odd = keys[~np.isin(hashes, known)] + offsets[start]
        hit[np.searchsorted(offsets, odd, side="right") - 1] = True
        start = end
    return hit


def _keys(text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the keys in bytes of JSON (uint8) begin, and their hashes (uint64)."""
    colons = np.flatnonzero(text == _COLON)
    colons = colons[colons > 1]
    closing = colons - 1 - (text[colons - 1] == _SPACE)
    quotes = np.flatnonzero(text == _QUOTE)
    quotes = quotes[(quotes == 0) | (text[quotes - 1] != _BACKSLASH)]
    at = np.searchsorted(quotes, closing)
    is_key = (at > 0) & (quotes[np.minimum(at, len(quotes) - 1)] == closing) if len(quotes) else []
    at = at[np.asarray(is_key, bool)]
    first, behind = quotes[at - 1] + 1, quotes[at]
    powers = _powers(_BASE, len(text))
    sums = np.append(np.uint64(0), np.cumsum((text + np.uint64(1)) * powers, dtype=np.uint64))
    inverse = _powers(_BASE_INVERSE, len(text) + 1)
    return first, (sums[behind] - sums[first]) * inverse[first]


def _powers(base: np.uint64, count: int) -> np.ndarray:
    factors = np.full(count, base)
    factors[:1] = 1
    return np.asarray(np.cumprod(factors, dtype=np.uint64))


@functools.lru_cache(maxsize=64)
def _known_keys(schema: pa.Schema) -> np.ndarray:
    """Hashes (uint64) of all keys of a schema, on every level."""
    quoted = b"".join(b'"%s":' % name.encode() for name in _names(schema))
    return np.unique(_keys(np.frombuffer(b"{" + quoted, np.uint8))[1])


def _names(fields: Iterable[pa.Field]) -> Iterator[str]:
    for field in fields:
        yield field.name
        kind = field.type.value_type if pa.types.is_list(field.type) else field.type
        if pa.types.is_struct(kind):
            yield from _names(kind)


def _cut(values: pa.Array, schema: pa.Schema) -> tuple[pa.Table | None, np.ndarray]:
    """As `parse_lines`, by cutting until a bad line is alone or among a few short ones."""
    refused = np.zeros(len(values), bool)
    if not len(values):
        return None, refused
    text = _text(values)
    try:
        table = _read(text, schema)
        if table.num_rows == len(values):
            return table, refused
    except _REFUSED:
        pass
    if len(values) == 1 or text.size < SMALLEST_CUT_BYTES:
        return None, ~refused
    step = -(-len(values) // CUTS)
    tables = []
    for start in range(0, len(values), step):
        table, part = _cut(values.slice(start, step), schema)
        refused[start : start + step] = part
        if table is not None:
            tables.append(table)
    return (pa.concat_tables(tables) if tables else None), refused


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """All rows of a table in one batch."""
    if any(column.num_chunks > 1 for column in table.columns):
        table = table.combine_chunks()
    return table.to_batches(max_chunksize=max(table.num_rows, 1))[0]


def children(struct: pa.StructArray) -> dict[str, pa.Array]:
    """The fields of a struct by name; null where the struct is null."""
    return dict(zip((field.name for field in struct.type), struct.flatten(), strict=True))
