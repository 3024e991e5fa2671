"""Dates rewritten to one row a key."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import Any
from uuid import uuid4

from google.cloud import bigquery

from connectors.retries import TransientError, with_retries
from connectors.sinks.bigquery import views
from connectors.sinks.bigquery.dataset import Dataset
from connectors.sinks.bigquery.errors import Buffered, Missing
from connectors.sinks.bigquery.jobs import run_once
from connectors.sinks.tables import Table


def compact(dataset: Dataset, table: Table, day: date) -> bool:
    """Leave one row a key of that UTC day; rows that come meanwhile stay. False where BigQuery
    still buffers rows of it and changes none so long: later is right then. Raises
    DependencyFailed."""
    location = dataset.there(table).location
    name = f"odograph-compact-{dataset.settings.dataset}-{table.name}-{day:%Y%m%d}-{uuid4().hex}"
    start = partial(_start, dataset, table, day, location)

    def run() -> None:
        try:
            run_once(dataset.rest, name, location, start)
        except Missing as error:
            dataset.ensure(table)
            raise TransientError(str(error)) from None

    try:
        with_retries(dataset.settings, run)
    except Buffered:
        return False
    return True


def _start(dataset: Dataset, table: Table, day: date, location: str | None, name: str) -> Any:
    patience: dict[str, Any] = {"retry": None, "timeout": dataset.settings.request_timeout_s}
    given = [bigquery.ScalarQueryParameter("day", "DATE", day)]
    return dataset.rest.client.query(
        views.compacted(table, dataset.place(table)),
        job_config=bigquery.QueryJobConfig(query_parameters=given),
        job_id=name,
        location=location,
        job_retry=None,
        **patience,
    )
