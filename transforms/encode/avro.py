"""Arrow to Avro: all records of a batch in one native call.

Where the schema allows no null, the native encoder writes nothing for one, so nulls are replaced by
the schema's defaults first. It cannot encode the type bytes (it panics): schemas with bytes are
few, and their records are encoded one at a time."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Mapping
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from schemas import Field, parse_field
from schemas.arrow import arrow_type
from transforms.model.arrow_numpy import single

LARGEST = 2**31 - 1
"""Bytes one binary array can hold."""
_BYTES_A_CALL = 1 << 27


def joined(*pieces: pa.BinaryArray | pa.BinaryScalar) -> pa.BinaryArray:
    """The pieces of each row, joined: of shape (rows,). A scalar is in every row, a null is empty.

    Raises OverflowError for more than 2 GiB, which is what a binary array can hold.
    """
    count = max(len(piece) for piece in pieces if isinstance(piece, pa.Array))
    total = 0
    for piece in pieces:
        size = pc.sum(pc.binary_length(piece)).as_py() or 0
        total += size if isinstance(piece, pa.Array) else size * count
    _check_size(total)
    return pc.binary_join_element_wise(
        *pieces, pa.scalar(b"", pa.binary()), null_handling="replace", null_replacement=b""
    )


def _check_size(total: int) -> None:
    if total > LARGEST:
        raise OverflowError(
            f"{total} bytes in one batch, more than the {LARGEST} a binary array holds; "
            "encode fewer rows at a time"
        )


def encode_records(records: pa.RecordBatch | pa.Table, avro: dict[str, Any]) -> pa.BinaryArray:
    """Each row as a datum of record schema `avro`, of shape (rows,); columns are taken by name.

    A null where the schema allows none becomes the field's default, a null list or map an empty
    one, a null in a list is left out, an unknown enum symbol becomes the enum's default. Raises
    ValueError where there is no default, OverflowError for more than 2 GiB.
    """
    columns = {name: single(records.column(name)) for name in records.schema.names}
    settled = _settled(columns, avro["fields"], records.num_rows, avro["name"])
    batch = pa.RecordBatch.from_arrays(list(settled.values()), names=list(settled))
    schema = json.dumps(avro)
    if '"bytes"' in schema:
        return _encode_slowly(batch, schema)
    step = max(batch.num_rows * _BYTES_A_CALL // max(batch.nbytes, 1), 1)
    starts = range(0, max(batch.num_rows, 1), step)
    parts = [_encode_natively(batch.slice(start, step), schema) for start in starts]
    if len(parts) == 1:
        return parts[0]
    _check_size(sum(part.nbytes for part in parts))
    return pa.concat_arrays(parts)


def _settled(
    columns: Mapping[str, pa.Array], raw_fields: list[dict[str, Any]], count: int, path: str
) -> dict[str, pa.Array]:
    """The fields of a record in order, as the native encoder wants them."""
    settled = {}
    for field in map(parse_field, raw_fields):
        column = columns.get(field.name)
        if column is None:
            column = pa.nulls(count, arrow_type(field.avro_type))
        settled[field.name] = _settled_field(column, field, f"{path}.{field.name}")
    return settled


def _settled_field(column: pa.Array, field: Field, path: str) -> pa.Array:
    if field.kind in ("map", "record") or (field.kind == "array" and field.nullable):
        return column
    if field.kind == "array" and isinstance(field.avro_type["items"], dict):
        return _settled_samples(column, field.avro_type["items"], path)
    wanted = arrow_type(field.avro_type)
    column = column if column.type == wanted else column.cast(wanted)
    if field.kind == "array":
        return _without_null_items(column)[0]
    if field.kind == "enum":
        column = _known_symbols(column, field.avro_type, path)
    if field.nullable or not column.null_count:
        return column
    if field.default is None:
        row = pc.index(column.is_null(), True).as_py()
        raise ValueError(f"{path}: row {row} is null and the schema has no default; give a value")
    return column.fill_null(field.default)


def _known_symbols(column: pa.Array, enum: dict[str, Any], path: str) -> pa.Array:
    known = pc.is_in(column, pa.array([*enum["symbols"], None], pa.string()))
    if pc.all(known).as_py() is not False:
        return column
    if "default" not in enum:
        symbol = column.filter(pc.invert(known))[0].as_py()
        raise ValueError(f"{path}: no symbol {symbol!r} in {enum['symbols']}, and no default")
    return pc.if_else(known, column, enum["default"])


def _without_null_items(column: pa.ListArray) -> tuple[pa.ListArray, pa.Array]:
    """Lists without their null items, and all items that stay."""
    items = column.flatten()
    if not items.null_count:
        return column, items
    ends = np.append(0, np.cumsum(pc.list_value_length(column).fill_null(0)))
    kept = np.append(0, np.cumsum(items.is_valid())).astype(np.int32)
    items = items.drop_null()
    return pa.ListArray.from_arrays(pa.array(kept[ends]), items), items


def _settled_samples(column: pa.ListArray, record: dict[str, Any], path: str) -> pa.ListArray:
    column, items = _without_null_items(column)
    columns = dict(zip((child.name for child in items.type), items.flatten(), strict=True))
    children = _settled(columns, record["fields"], len(items), path)
    settled = pa.StructArray.from_arrays(list(children.values()), names=list(children))
    ends = np.append(0, np.cumsum(pc.list_value_length(column).fill_null(0)))
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), settled)


def _encode_natively(batch: pa.RecordBatch, schema: str) -> pa.BinaryArray:
    [encoded] = pyruhvro.serialize_record_batch(batch, schema, 1)
    return encoded


@functools.lru_cache(maxsize=64)
def _parsed(schema: str) -> Any:
    return fastavro.parse_schema(json.loads(schema))


def _encode_slowly(batch: pa.RecordBatch, schema: str) -> pa.BinaryArray:
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        columns[name] = column.to_pylist()
        if pa.types.is_map(column.type):
            columns[name] = [dict(pairs or ()) for pairs in columns[name]]
    encoded = []
    for row in zip(*columns.values(), strict=True):
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, _parsed(schema), dict(zip(columns, row, strict=True)))
        encoded.append(stream.getvalue())
    return pa.array(encoded, pa.binary())
