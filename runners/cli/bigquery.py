"""`odograph bigquery`: creating and compacting the tables of facts in BigQuery."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from connectors.errors import BadArguments
from connectors.sinks.bigquery.settings import BigQuerySettings
from runners.cli.terminal import Day
from runners.config import load_config

if TYPE_CHECKING:
    from connectors.sinks.bigquery.sink import BigQuerySink


@click.group()
def bigquery() -> None:
    """The tables of facts in BigQuery."""


def _config(command: Callable[..., Any]) -> Any:
    text = "YAML settings: sinks.bigquery."
    option = click.option(
        "--config", "path", required=True, type=click.Path(dir_okay=False), help=text
    )
    return option(command)


def _sink(path: str) -> BigQuerySink:
    from connectors.sinks.bigquery.sink import BigQuerySink

    settings = load_config(path).sinks.settings_of(BigQuerySettings)
    if settings is None:
        raise BadArguments(f"{path}: sinks.bigquery is not set: give its project and dataset")
    return BigQuerySink(settings)


@bigquery.command("prepare")
@_config
def bigquery_prepare(path: str) -> None:
    """Make dataset, tables and views where they are missing, and add columns that are new."""
    from connectors.sinks.tables import TABLES

    sink = _sink(path)
    try:
        sink.prepare(list(TABLES.values()))
        for table in TABLES.values():
            click.echo(f"{sink.dataset.place(table)}: as declared")
    finally:
        sink.close()


@bigquery.command("compact")
@_config
@click.option("--from", "first", required=True, type=Day(), help="First date, UTC.")
@click.option("--to", "last", required=True, type=Day(), help="Last date, UTC.")
def bigquery_compact(path: str, first: datetime, last: datetime) -> None:
    """Leave one row per key in the tables of those dates: what views show stays as it is.

    It may run beside live sinks and be repeated; a table of which BigQuery still buffers rows of
    such a date is left for later.
    """
    from connectors.sinks.tables import TABLES

    if last < first:
        raise BadArguments(f"--to {last:%Y-%m-%d} is before --from {first:%Y-%m-%d}")
    sink = _sink(path)
    try:
        for day in _days(first.date(), last.date()):
            for table in TABLES.values():
                done = sink.compact(table, day)
                what = "one row per key" if done else "left for later, rows are buffered still"
                click.echo(f"{sink.dataset.place(table)} {day}: {what}")
    finally:
        sink.close()


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
