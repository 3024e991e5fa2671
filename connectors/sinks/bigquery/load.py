"""Whole days by load jobs: a job's id is a function of what it loads, so that it runs once."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from datetime import date
from functools import partial
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from google.cloud import bigquery

from connectors.retries import TransientError, with_retries
from connectors.sinks.bigquery import schema as shape
from connectors.sinks.bigquery.dataset import Dataset
from connectors.sinks.bigquery.errors import Missing
from connectors.sinks.bigquery.jobs import run_once
from connectors.sinks.tables import GONE, REVISION, Table

BATCH_ROWS = 64_000


def load_rows(
    dataset: Dataset, table: Table, day: date, rows_of_day: Iterable[pa.Table]
) -> tuple[int, int]:
    """Append rows (`table.revised`) of one UTC day and return how many they are and their bytes.
    Nothing is loaded that was loaded before. Raises RowsRefused, DependencyFailed."""
    dataset.ensure(table)
    with tempfile.TemporaryFile() as content:
        rows = _write(content, dataset, table, rows_of_day)
        size = content.tell()
        if not rows:
            return 0, 0
        content.seek(0)
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:24]
        with_retries(dataset.settings, lambda: _load(dataset, table, day, content, digest))
    return rows, size


def rows_of(table: Table, day: date, files: Iterable[Any], revision: int) -> Iterator[pa.Table]:
    """Rows of `day` (UTC) in Parquet `files` (paths or what pyarrow opens). Files with columns of
    `table` get `revision` and are not gone, files of `table.revised` keep theirs."""
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS):
            rows = pa.Table.from_batches([batch])
            dates = rows.column(table.time).cast(pa.date32())
            yield _revised(table, rows.filter(pc.equal(dates, pa.scalar(day))), revision)


def _revised(table: Table, rows: pa.Table, revision: int) -> pa.Table:
    """The rows with all columns of `table.revised`: files may be older than a column."""
    given = {REVISION.name: revision, GONE.name: False}
    columns = [
        rows.column(field.name).cast(field.type)
        if field.name in rows.column_names
        else pa.repeat(pa.scalar(given.get(field.name), field.type), rows.num_rows)
        for field in table.revised
    ]
    return pa.table(columns, schema=table.revised)


def _write(content: IO[bytes], dataset: Dataset, table: Table, rows: Iterable[pa.Table]) -> int:
    """As one Parquet file with the columns in the table's order; returns how many rows."""
    order = [field.name for field in dataset.there(table).schema]
    schema = shape.sent_schema(table)
    schema = pa.schema([schema.field(name) for name in order if name in schema.names])
    written = 0
    with pq.ParquetWriter(content, schema, compression="zstd") as writer:
        for part in rows:
            writer.write_batch(shape.sent(table, part).select(schema.names))
            written += part.num_rows
    return written


def _load(dataset: Dataset, table: Table, day: date, content: IO[bytes], digest: str) -> None:
    """Run the job unless it ran; a table made anew has other ids."""
    found = dataset.there(table)
    era = f"{found.created:%Y%m%d%H%M%S}" if found.created else "0"
    name = f"odograph-{dataset.settings.dataset}-{table.name}-{day:%Y%m%d}-{digest}-{era}"
    start = partial(_send, dataset, table, content, found.location)
    try:
        run_once(dataset.rest, name, found.location, start)
    except Missing as error:
        dataset.ensure(table)
        raise TransientError(str(error)) from None


def _send(
    dataset: Dataset, table: Table, content: IO[bytes], location: str | None, name: str
) -> Any:
    parquet = bigquery.ParquetOptions()
    parquet.enable_list_inference = True
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
        create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
        parquet_options=parquet,
    )
    return dataset.rest.client.load_table_from_file(
        content,
        dataset.place(table),
        rewind=True,
        num_retries=0,
        job_id=name,
        location=location,
        job_config=config,
        timeout=dataset.settings.request_timeout_s,
    )
