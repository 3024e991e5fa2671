"""`odograph stores`: what every store holds."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.table import Table

from connectors.errors import BadArguments, DependencyFailed
from connectors.sinks.catalogue import CATALOGUE
from runners.config import load_config


@click.command()
@click.option(
    "--config", "config_path", required=True, type=click.Path(dir_okay=False), help="YAML settings."
)
def stores(config_path: str) -> None:
    """Count what each store in `sinks` of the settings file holds.

    Records of the archive, rows of tables and views, documents of Elasticsearch. For a look at a
    young deployment: archive and lake are counted object by object. A store that cannot be counted
    keeps no other back; the exit code is 3 then.
    """
    config = load_config(config_path)
    placed = {
        name: settings
        for name, settings in config.sinks.configured().items()
        if CATALOGUE[name].is_placed(settings)
    }
    if not placed:
        raise BadArguments(f"{config_path}: sinks: no store is set; see docs/sinks/README.md")
    table = Table(title="What the stores hold")
    table.add_column("store")
    table.add_column("what")
    table.add_column("how many", justify="right")
    failures = []
    for name, settings in placed.items():
        try:
            counts = CATALOGUE[name].count_rows(
                settings, config.bindings_database, config.s3.settings()
            )
        except DependencyFailed as error:
            failures.append(f"{name}: {error}")
            continue
        for what, number in sorted(counts.items()):
            table.add_row(name, what, f"{number:,}")
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    if failures:
        raise DependencyFailed("\n".join(failures))
