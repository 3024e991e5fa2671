"""What a table of facts looks like in BigQuery, and rows in the form in which they go there."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.cloud.bigquery import SchemaField

from connectors.sinks.tables import GONE, REVISION, Table

DATE = pa.field("event_date", pa.date32(), nullable=False)
"""UTC date of the table's `time`: tables are partitioned by it."""
DAYS_BACK, DAYS_AHEAD = 3_650, 1_825
"""BigQuery streams into partitions of no other dates; load jobs reach all."""
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
    """Rows of `table.revised` as a batch of `sent_schema`; elements of lists that are null are left
    out, for BigQuery has none."""
    schema = sent_schema(table)
    rows = rows.combine_chunks()
    arrays = {name: _array(rows.column(name)) for name in rows.column_names}
    arrays[DATE.name] = arrays[table.time]
    columns = [_whole(pc.cast(arrays[field.name], field.type)) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def unstreamable(batch: pa.RecordBatch, today: date) -> dict[int, str]:
    """Rows of `sent` that BigQuery takes by load jobs alone, by number, and why."""
    first, last = _streamed(today)
    dates = batch.column(DATE.name)
    outside = pc.or_(pc.less(dates, first), pc.greater(dates, last))
    return {
        int(number): f"{DATE.name} {dates[number]} is outside {first} to {last}, the dates that "
        "BigQuery streams into; load the day"
        for number in np.asarray(outside).nonzero()[0]
    }


def streams_into(day: date, today: date) -> bool:
    """Whether BigQuery takes rows of `day` by other ways than load jobs."""
    first, last = _streamed(today)
    return first <= day <= last


def _streamed(today: date) -> tuple[date, date]:
    return today - timedelta(DAYS_BACK), today + timedelta(DAYS_AHEAD)


def with_values(column: pa.ListArray, values: pa.Array) -> pa.ListArray:
    """The lists of `column` with other values, as many as `column.flatten()` has."""
    return _lists(values, _ends(column), column.is_null())


def _whole(column: pa.Array) -> pa.Array:
    if not pa.types.is_list(column.type):
        return column
    values = column.flatten()
    if not values.null_count:
        return column
    kept = np.concatenate([[0], np.cumsum(np.asarray(values.is_valid()))])
    return _lists(values.drop_null(), kept[_ends(column)], column.is_null())


def _ends(column: pa.ListArray) -> np.ndarray:
    """Where each list begins in `column.flatten()`, and where the last one ends."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0))
    return np.concatenate([[0], np.cumsum(lengths)])


def _lists(values: pa.Array, ends: np.ndarray, nothing: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values, mask=nothing)


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
