"""`odograph stores`: what every store holds."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable

import click
from rich.console import Console
from rich.table import Table

from connectors.errors import BadArguments, DependencyFailed
from connectors.sinks.row_counts import (
    archive_records,
    bigquery_rows,
    elasticsearch_documents,
    lake_rows,
    state_rows,
)
from connectors.storage.folder import folder
from runners.config import Config, load_config


@click.command()
@click.option(
    "--config", "config_path", required=True, type=click.Path(dir_okay=False), help="YAML settings."
)
def stores(config_path: str) -> None:
    """Count what each store in `sinks` of the settings file holds.

    Records of the archive, rows of the lake's tables, of BigQuery's views and of the tables of
    state, documents of Elasticsearch. For a look at a young deployment: archive and lake are
    counted object by object. A store that cannot be counted keeps no other back; the exit code
    is 3 then.
    """
    config = load_config(config_path)
    counts = _counts(config)
    if not counts:
        raise BadArguments(f"{config_path}: sinks: no store is set; see docs/sinks/README.md")
    table = Table(title="What the stores hold")
    table.add_column("store")
    table.add_column("what")
    table.add_column("how many", justify="right")
    failures = []
    for store, count in counts.items():
        try:
            held = sorted(count().items())
        except DependencyFailed as error:
            failures.append(f"{store}: {error}")
            held = []
        for what, number in held:
            table.add_row(store, what, f"{number:,}")
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    if failures:
        raise DependencyFailed("\n".join(failures))


def _counts(config: Config) -> dict[str, Callable[[], Counter[str]]]:
    sinks, s3 = config.sinks, config.s3.settings()
    archive, lake, bigquery = sinks.archive, sinks.lake, sinks.bigquery
    search, state = sinks.elasticsearch, sinks.state
    found: dict[str, Callable[[], Counter[str]]] = {}
    if archive and archive.folder:
        found["archive"] = lambda: archive_records(folder(archive.folder or "", s3))
    if lake and lake.folder:
        found["lake"] = lambda: lake_rows(folder(lake.folder or "", s3))
    if bigquery:
        found["bigquery"] = lambda: bigquery_rows(bigquery)
    if search:
        found["elasticsearch"] = lambda: elasticsearch_documents(search)
    if state:
        found["state"] = lambda: state_rows(state, config.bindings_database)
    return found
