"""Whole days by load jobs: a job's id is a function of what it loads, so that it runs once."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from google.cloud import bigquery

from connectors.bigquery import shape
from connectors.bigquery.answers import PASSING_REASONS, Exists, Missing
from connectors.bigquery.dataset import Dataset
from connectors.files import DependencyFailed
from connectors.sink import Passing, patiently
from connectors.tables import GONE, REVISION, Table

BATCH_ROWS = 64_000
_TRIES = 1_000


def load_day(
    dataset: Dataset, table: Table, day: date, files: Sequence[Any], revision: int
) -> tuple[int, int]:
    """Append the rows of `day` (UTC) in Parquet `files` (paths or what pyarrow opens) and return
    rows and bytes; files with columns of `table` get `revision` and are not gone, files of
    `table.revised` keep theirs. Nothing is loaded that was loaded before. Raises
    DependencyFailed."""
    dataset.ensure(table)
    with tempfile.TemporaryFile() as content:
        rows = _write(content, dataset, table, _rows_of(table, day, files, revision))
        size = content.tell()
        if not rows:
            return 0, 0
        content.seek(0)
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:24]
        patiently(dataset.settings, lambda: _load(dataset, table, day, content, digest))
    return rows, size


def _rows_of(table: Table, day: date, files: Sequence[Any], revision: int) -> Iterator[pa.Table]:
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


def _write(content: IO[bytes], dataset: Dataset, table: Table, rows: Iterator[pa.Table]) -> int:
    """As one Parquet file with the columns in the table's order; returns how many rows."""
    order = [field.name for field in dataset.found(table).schema]
    schema = shape.sent_schema(table)
    schema = pa.schema([schema.field(name) for name in order if name in schema.names])
    written = 0
    with pq.ParquetWriter(content, schema, compression="zstd") as writer:
        for part in rows:
            writer.write_batch(shape.sent(table, part).select(schema.names))
            written += part.num_rows
    return written


def _load(dataset: Dataset, table: Table, day: date, content: IO[bytes], digest: str) -> None:
    """Start the job or find the one that was started, and wait for it. A job that failed has used
    up its id, so that the next has a number more; a table made anew has other ids."""
    made = dataset.found(table).created
    era = f"{made:%Y%m%d%H%M%S}" if made else "0"
    name = f"odograph-{dataset.settings.dataset}-{table.name}-{day:%Y%m%d}-{digest}-{era}"
    for number in range(_TRIES):
        started, job = _job(dataset, table, content, f"{name}-{number}")
        error = dataset.rest.end_of(job)
        if error is None:
            return
        words = f"BigQuery job {job.job_id}: {error.get('message', 'no reason given')}"
        if started and error.get("reason") in PASSING_REASONS:
            raise Passing(words)
        if started:
            raise DependencyFailed(words)
    raise DependencyFailed(f"{words}; it failed {_TRIES} times, so that this id is used up")


def _job(dataset: Dataset, table: Table, content: IO[bytes], name: str) -> tuple[bool, Any]:
    """Whether the job was started now, and the job."""
    rest = dataset.rest

    def found() -> Any:
        return rest.once(f"look at job {name}", rest.client.get_job, name)

    with suppress(Missing):
        return False, found()
    try:
        return True, rest.asked(
            f"load into {dataset.place(table)}", lambda: _send(dataset, table, content, name)
        )
    except Exists:
        return False, found()
    except Missing as error:
        dataset.ensure(table)
        raise Passing(str(error)) from None


def _send(dataset: Dataset, table: Table, content: IO[bytes], name: str) -> Any:
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
        job_config=config,
        timeout=dataset.settings.request_timeout_s,
    )
