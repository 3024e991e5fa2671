"""Lines of JSON to columns: one native parse a batch, and which lines it could not take.

`pyarrow.json` parses a whole batch against the expected schema. A line that is not exactly what
its schema says (wrong type, unknown key, twice the same key, two objects on one line, …) is
looked for by cutting the batch.
"""

from __future__ import annotations

import re

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
    """The lines the native parser takes, and bool of shape (lines,): those it does not."""
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
    """bool of shape (lines,): lines the parser's own messages point at, and lines with unknown
    fields. Not all bad lines are found this way, and none is trusted for not being found; where
    most lines are bad, the rest is given up."""
    found = _many_brackets(values)
    lines = np.flatnonzero(~found)
    rest = values.take(pa.array(lines))
    start = hits = 0
    while start < len(rest):
        try:
            table = _read(_text(rest.slice(start)), schema, "infer")
            if table.num_rows == len(rest) - start:
                unknown = _with_unknown(one_batch(table), schema)
                found[lines[start:][unknown]] = True
            break
        except _REFUSED as error:
            row = _ROW.search(str(error))
            if row is None or start + int(row[1]) >= len(rest):
                break
            start += int(row[1]) + 1
            hits += 1
            found[lines[start - 1]] = True
            if hits >= HITS and hits * 4 > start:
                found[lines[start:]] = True
                break
    return found


HITS = 64
_ROW = re.compile(r"in row (\d+)$")
BRACKETS = 2000


def _many_brackets(values: pa.Array) -> np.ndarray:
    """bool of shape (lines,): so many arrays that guessing types of unknown fields could run
    the parser out of stack."""
    counts = pc.count_substring(values, b"[")
    return np.asarray(pc.greater(counts, BRACKETS).fill_null(True))


def _with_unknown(batch: pa.RecordBatch, schema: pa.Schema) -> np.ndarray:
    """bool of shape (rows,): any field that the schema does not name, on any level."""
    hit = np.zeros(batch.num_rows, bool)
    for name in batch.schema.names:
        column = batch.column(name)
        if name not in schema.names:
            hit |= np.asarray(column.is_valid())
        elif pa.types.is_struct(column.type):
            hit |= _unknown_children(column, schema.field(name).type)
        elif pa.types.is_list(column.type) and pa.types.is_struct(column.type.value_type):
            samples = _unknown_children(column.flatten(), schema.field(name).type.value_type)
            parents = np.asarray(pc.list_parent_indices(column))
            hit[parents[samples]] = True
    return hit


def _unknown_children(struct: pa.StructArray, known: pa.StructType) -> np.ndarray:
    names = {field.name for field in known}
    hit = np.zeros(len(struct), bool)
    for name, child in children(struct).items():
        if name not in names:
            hit |= np.asarray(child.is_valid())
    return hit


def _cut(values: pa.Array, schema: pa.Schema) -> tuple[pa.Table | None, np.ndarray]:
    """As `parse_lines`, by halving until a bad line stands alone or among a few short ones."""
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
    """The fields of a struct by name, null where the struct is."""
    return dict(zip((field.name for field in struct.type), struct.flatten(), strict=True))
