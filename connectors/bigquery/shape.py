"""What a table of facts looks like in BigQuery, and rows in the form in which they go there."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from google.cloud.bigquery import SchemaField

from connectors.tables import GONE, REVISION, Table

DATE = pa.field("event_date", pa.date32(), nullable=False)
"""UTC date of the table's `time`: tables are partitioned by it."""
_CLUSTERS = ("vehicle_id", "device_no")
_TIMESTAMP = pa.timestamp("us", tz="UTC")


def sent_schema(table: Table) -> pa.Schema:
    """The columns of `table.revised` and DATE in Arrow types that BigQuery takes. All that a row
    must have is what tells it apart: new columns come later, and a `gone` row has nothing else."""
    required = {*table.key, table.time, DATE.name, REVISION.name, GONE.name}
    return pa.schema(
        [
            pa.field(field.name, _sent(field.type), nullable=field.name not in required)
            for field in (*table.revised, DATE)
        ]
    )


def fields(table: Table) -> list[SchemaField]:
    """The columns of the table in BigQuery."""
    return [_field(field) for field in sent_schema(table)]


def clusters(table: Table) -> list[str]:
    """The columns the table is clustered by."""
    return [name for name in _CLUSTERS if name in table.columns.names]


def sent(table: Table, rows: pa.Table) -> pa.RecordBatch:
    """Rows of `table.revised` as a batch of `sent_schema`."""
    schema = sent_schema(table)
    rows = rows.combine_chunks()
    arrays = {name: _array(rows.column(name)) for name in rows.column_names}
    arrays[DATE.name] = arrays[table.time]
    columns = [pc.cast(arrays[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _sent(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_map(kind):
        pair = [pa.field("key", _sent(kind.key_type)), pa.field("value", _sent(kind.item_type))]
        return pa.list_(pa.struct(pair))
    if pa.types.is_list(kind):
        return pa.list_(_sent(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(part.name, _sent(part.type)) for part in kind])
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    return _TIMESTAMP if pa.types.is_timestamp(kind) else kind


def _field(field: pa.Field) -> SchemaField:
    kind, mode = field.type, "NULLABLE" if field.nullable else "REQUIRED"
    if pa.types.is_list(kind):
        kind, mode = kind.value_type, "REPEATED"
    if pa.types.is_struct(kind):
        return SchemaField(field.name, "RECORD", mode, fields=[_field(part) for part in kind])
    return SchemaField(field.name, _name(field.name, kind), mode)


def _name(column: str, kind: pa.DataType) -> str:
    for is_kind, name in (
        (pa.types.is_string, "STRING"),
        (pa.types.is_int64, "INTEGER"),
        (pa.types.is_float64, "FLOAT"),
        (pa.types.is_boolean, "BOOLEAN"),
        (pa.types.is_timestamp, "TIMESTAMP"),
        (pa.types.is_date32, "DATE"),
        (pa.types.is_binary, "BYTES"),
    ):
        if is_kind(kind):
            return name
    raise TypeError(f"column {column}: BigQuery has no type for {kind}")
