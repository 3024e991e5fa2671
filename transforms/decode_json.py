"""STS JSON to uploads: one native parse a batch, and a way to the few lines it cannot take.

`pyarrow.json` parses a whole batch against the expected schema. A line that is not exactly what
its schema says (wrong type, unknown key, twice the same key, two objects on one line, …) is
looked for by cutting the batch, and goes alone to `transforms.repair`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from schemas import REPORT_TYPES, payload_fields
from schemas.arrow import UTC_MS, sts_schema
from transforms.arrays import NO_TIME
from transforms.coerce import EARLIEST_RECEIVED_MS, LATEST_MS, LATEST_RECEIVED_MS
from transforms.rules import Bounds
from transforms.uploads import (
    EXTRAS,
    HEAD,
    Uploads,
    message_ids,
    normal_device_nos,
    rows_schema,
)

SMALLEST_CUT_BYTES = 2048
CUTS = 8
_BRACE, _OPEN, _COMMA, _COLON, _NEWLINE, _SPACE = b"{[,:\n "
_MAY_PRECEDE_OBJECT = np.zeros(256, bool)
_MAY_PRECEDE_OBJECT[[_OPEN, _COMMA, _COLON, _NEWLINE]] = True
_ZONES = {b"GMT": 0, b"UTC": 0, b"KST": 9 * 3_600_000, b"Z": 0}


@dataclass(frozen=True)
class Parsed:
    """Natively decoded uploads with their raw rows, and the raw rows that need repair."""

    uploads: Uploads | None
    raw: pa.RecordBatch
    repair: np.ndarray


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
                unknown = _with_unknown(_one_batch(table), schema)
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
    for name, child in _children(struct).items():
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


def decode_json(raw: pa.RecordBatch, message_type: str, bounds: Bounds) -> Parsed:
    """Decode the lines of `raw` that are well-formed STS uploads of `message_type`."""
    values = raw.column("value")
    repair = suspicious_lines(values, bounds)
    clean = np.flatnonzero(~repair)
    if len(clean) < len(values):
        values = values.take(pa.array(clean))
    table, refused = parse_lines(values, sts_schema(message_type))
    repair[clean[refused]] = True
    if table is None:
        return Parsed(None, raw.slice(0, 0), repair)
    kept = clean[~refused]
    batch = _one_batch(table)
    received_ms = _stamp_ms(batch.column("timestamp"))
    complete = _complete(batch, received_ms, message_type, bounds)
    if not complete.all():
        repair[kept[~complete]] = True
        kept, received_ms = kept[complete], received_ms[complete]
        batch = batch.filter(pa.array(complete))
    if not len(kept):
        return Parsed(None, raw.slice(0, 0), repair)
    chosen = raw if len(kept) == raw.num_rows else raw.take(pa.array(kept))
    return Parsed(to_uploads(batch, received_ms, chosen, message_type), chosen, repair)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    if any(column.num_chunks > 1 for column in table.columns):
        table = table.combine_chunks()
    return table.to_batches(max_chunksize=max(table.num_rows, 1))[0]


def _complete(
    batch: pa.RecordBatch, received_ms: np.ndarray, message_type: str, bounds: Bounds
) -> np.ndarray:
    """bool of shape (rows,): nothing about the upload needs a second look."""
    good = pc.equal(batch.column("type"), message_type).fill_null(False)
    device = batch.column("device_no")
    blank = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(device)), 0)
    good = pc.and_(good, pc.invert(blank).fill_null(False))
    good = pc.and_(good, pc.less_equal(pc.binary_length(device), bounds.max_device_no_length))
    mask = np.array(good.fill_null(False).to_numpy(zero_copy_only=False))
    mask &= received_ms != NO_TIME
    if message_type in REPORT_TYPES:
        mask &= np.asarray(batch.column("d").is_valid())
        leaves = {"ts": batch.column("ts"), **_children(batch.column("d"))}
        rows = np.arange(batch.num_rows)
    else:
        lengths = pc.list_value_length(batch.column("data")).fill_null(0).to_numpy()
        mask &= (lengths > 0) & (lengths <= bounds.max_samples)
        samples = batch.column("data").flatten()
        rows = np.repeat(np.arange(batch.num_rows), lengths)
        mask[rows[np.asarray(samples.is_null())]] = False
        leaves = _children(samples)
    for position in _doubtful(leaves, message_type):
        mask[rows[position]] = False
    return mask


def _doubtful(leaves: dict[str, pa.Array], message_type: str) -> list[np.ndarray]:
    """Row numbers of values that parse but are not plain: NaN, seconds for ms, unknown codes,
    lists with gaps."""
    found = []
    for field in payload_fields(message_type):
        values = leaves.get(field.sts or "")
        if values is None or values.null_count == len(values):
            continue
        if field.codes is not None:
            extremes = pc.min_max(values).as_py()
            if extremes["min"] < 0 or extremes["max"] >= len(field.codes):
                numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
                found.append(np.flatnonzero((numbers < 0) | (numbers >= len(field.codes))))
        elif field.name == "device_time":
            extremes = pc.min_max(values).as_py()
            if extremes["min"] < 10_000_000_000 or extremes["max"] > LATEST_MS:
                times = values.fill_null(LATEST_MS).to_numpy(zero_copy_only=False)
                odd = (times < 0) | (times > LATEST_MS)
                found.append(np.flatnonzero(odd | ((times >= 10**9) & (times < 10**10))))
        elif pa.types.is_floating(values.type) and not np.isfinite(pc.sum(values).as_py()):
            numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
            found.append(np.flatnonzero(~np.isfinite(numbers)))
        elif pa.types.is_list(values.type):
            found.append(_with_odd_elements(values))
    return found


def _with_odd_elements(lists: pa.ListArray) -> np.ndarray:
    """Row numbers of lists with an element that is null or no finite number."""
    elements = lists.flatten()
    odd = np.asarray(elements.is_null())
    if pa.types.is_floating(elements.type):
        odd |= ~np.isfinite(elements.fill_null(0).to_numpy(zero_copy_only=False))
    if not odd.any():
        return np.empty(0, np.int64)
    return np.unique(np.asarray(pc.list_parent_indices(lists))[odd])


def _children(struct: pa.StructArray) -> dict[str, pa.Array]:
    return dict(zip((field.name for field in struct.type), struct.flatten(), strict=True))


def _stamp_ms(stamps: pa.Array) -> np.ndarray:
    """`yyyy-MM-ddTHH:mm:ss` plus GMT, UTC, KST or Z as UTC epoch ms, int64 of shape (rows,);
    NO_TIME where it is anything else, or outside the years 1980 to 2199."""
    result = np.full(len(stamps), NO_TIME)
    lengths = pc.binary_length(stamps).fill_null(0).to_numpy()
    for suffix, zone_ms in _ZONES.items():
        rows = np.flatnonzero(lengths == 19 + len(suffix))
        if not len(rows):
            continue
        starts = np.frombuffer(stamps.buffers()[1], np.int32)[stamps.offset :][rows]
        data = np.frombuffer(stamps.buffers()[2], np.uint8)
        text = data[starts[:, None] + np.arange(19 + len(suffix))]
        fits = (text[:, 19:] == np.frombuffer(suffix, np.uint8)).all(axis=1)
        local = _civil_ms(text)
        received = local - zone_ms
        fits &= (local != NO_TIME) & (received >= EARLIEST_RECEIVED_MS)
        fits &= received <= LATEST_RECEIVED_MS
        result[rows[fits]] = received[fits]
    return result


_DAYS_IN_MONTH = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_DIGITS = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
_MARKS = {4: 45, 7: 45, 10: 84, 13: 58, 16: 58}


def _civil_ms(text: np.ndarray) -> np.ndarray:
    """Epoch ms of `yyyy-MM-ddTHH:mm:ss` in bytes of shape (rows, >= 19); NO_TIME if it is not."""
    digits = text[:, _DIGITS].astype(np.int64) - 48
    good = ((digits >= 0) & (digits <= 9)).all(axis=1)
    for position, mark in _MARKS.items():
        good &= text[:, position] == mark
    pairs = digits[:, ::2] * 10 + digits[:, 1::2]
    year = pairs[:, 0] * 100 + pairs[:, 1]
    month, day, hour, minute, second = pairs[:, 2:].T
    good &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    good &= (hour < 24) & (minute < 60) & (second < 60)
    month = np.where(good, month, 1)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    good &= day <= _DAYS_IN_MONTH[month] - ((month == 2) & ~leap)
    months = (np.where(good, year, 1970) - 1970) * 12 + month - 1
    days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + day - 1
    seconds = days * 86_400 + hour * 3_600 + minute * 60 + second
    return np.where(good, seconds * 1000, NO_TIME)


def to_uploads(
    batch: pa.RecordBatch, received_ms: np.ndarray, raw: pa.RecordBatch, message_type: str
) -> Uploads:
    """Uploads from a parsed batch in which every row is complete."""
    device = normal_device_nos(batch.column("device_no"))
    boot, seq = batch.column("boot"), batch.column("seq")
    count = batch.num_rows
    head = {
        **{name: raw.column(name) for name in ("topic", "partition", "offset", "object", "line")},
        "message_id": message_ids(device, message_type, boot, seq, raw),
        "device_no": device,
        "device_gen": pa.repeat("STS", count),
        "firmware_version": batch.column("fw"),
        "boot_count": boot,
        "seq": seq,
        "uptime_s": batch.column("up"),
        "received_time": pa.array(received_ms).cast(pa.timestamp("ms")).cast(UTC_MS),
        "extras": pa.nulls(count, EXTRAS),
        "flags": pa.array(np.zeros(count, np.int64)),
    }
    if message_type in REPORT_TYPES:
        leaves = {"ts": batch.column("ts"), **_children(batch.column("d"))}
        upload = np.arange(count, dtype=np.int32)
    else:
        data = batch.column("data")
        leaves = _children(data.flatten())
        lengths = pc.list_value_length(data).to_numpy()
        upload = np.repeat(np.arange(count, dtype=np.int32), lengths)
    return Uploads(
        message_type,
        pa.RecordBatch.from_arrays([head[name] for name in HEAD.names], schema=HEAD),
        to_rows(leaves, upload, message_type),
    )


def to_rows(leaves: dict[str, pa.Array], upload: np.ndarray, message_type: str) -> pa.RecordBatch:
    """`Uploads.rows` from STS leaves by JSON key."""
    schema = rows_schema(message_type)
    columns: list[pa.Array] = [
        pa.array(upload),
        pa.array(np.zeros(len(upload), np.int64)),
        pa.nulls(len(upload), EXTRAS),
    ]
    for field in payload_fields(message_type):
        values = leaves[field.sts or field.name]
        if field.codes is not None:
            values = _symbols(values, tuple(field.codes.values()))
        elif field.name == "device_time":
            values = values.cast(pa.timestamp("ms")).cast(UTC_MS)
        if field.default is not None and values.null_count:
            values = _with_default(values, field.default)
        columns.append(values.cast(schema.field(field.name).type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _with_default(values: pa.Array, default: object) -> pa.Array:
    if default == []:
        lengths = pc.list_value_length(values).fill_null(0).to_numpy()
        offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), values.flatten())
    return values.fill_null(default)


@functools.cache
def _symbol_array(symbols: tuple[str, ...]) -> pa.Array:
    return pa.array(symbols, pa.string())


def _symbols(codes: pa.Array, symbols: tuple[str, ...]) -> pa.Array:
    return pc.take(_symbol_array(symbols), codes)
