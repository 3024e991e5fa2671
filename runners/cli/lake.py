"""`odograph lake`: merging small objects of a lake, and views for reading it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click

from connectors.errors import BadArguments
from connectors.lake.settings import LakeSettings
from connectors.storage.folder import Folder, folder
from runners.cli.terminal import Day
from runners.config import Config, load_config

SETTLED_SHARE = 1.25
"""A topic keeps records up to this factor longer than its retention: whole segments are deleted."""


@click.group()
def lake() -> None:
    """The Parquet lake."""


def _lake_options(command: Callable[..., Any]) -> Any:
    for option in (
        click.option("--lake", "uri", help="Folder or s3:// prefix [sinks.lake.folder]."),
        click.option("--config", "path", type=click.Path(dir_okay=False), help="YAML settings."),
    ):
        command = option(command)
    return command


def _lake(uri: str | None, config: Config) -> Folder:
    named = uri or _settings(config).folder
    if not named:
        raise BadArguments(
            "neither --lake nor sinks.lake.folder of --config is set: name the folder of the lake"
        )
    lake_folder = folder(named, config.s3.settings())
    if not lake_folder.exists():
        raise BadArguments(f"--lake {named}: there is nothing")
    return lake_folder


def _settings(config: Config) -> LakeSettings:
    return config.sinks.settings_of(LakeSettings) or LakeSettings()


def settled(config: Config, now: datetime) -> datetime:
    """The time, in the fleet's zone, before which no arrival is written again by a live sink."""
    remembered = config.stream.lateness_hours + config.stream.outage_hours
    kept = config.topics.retention_hours * SETTLED_SHARE
    since = now - timedelta(hours=max(remembered, kept))
    return since.astimezone(ZoneInfo(config.fleet_zone))


@lake.command("compact")
@_lake_options
@click.option(
    "--before",
    required=True,
    type=Day(),
    help="Only hours of earlier dates, in the fleet's zone.",
)
def lake_compact(uri: str | None, path: str | None, before: datetime) -> None:
    """Merge small objects of an hour and table into large ones.

    It may be killed, and run beside live sinks and backfills: readers that ask which objects count
    (`odograph lake sql`) find every row once at any moment. Whoever just reads all objects finds
    rows twice while the sources of a merged object are deleted.
    """
    from connectors.lake.compact import compact

    config = load_config(path)
    lake_folder = _lake(uri, config)
    least = _settings(config).compact_bytes
    now = datetime.now(ZoneInfo(config.fleet_zone))
    done = compact(lake_folder, before.date(), settled(config, now), least)
    lake_folder.sweep()
    click.echo(
        f"{done.objects} objects of {done.hours} hours merged: "
        f"{done.bytes_read / 1e6:.1f} MB read, {done.bytes_written / 1e6:.1f} MB written"
    )
    for hour in done.busy:
        click.echo(f"  left, for somebody else was writing it: {hour}")


@lake.command("sql")
@_lake_options
@click.option("--date", "day", type=Day(), help="Only this date.")
def lake_sql(uri: str | None, path: str | None, day: datetime | None) -> None:
    """Print views for DuckDB, one per table, as the lake is now:
    `odograph lake sql --lake LAKE > lake.sql; duckdb -init lake.sql`."""
    from connectors.lake.read import TABLES, duckdb_source

    lake_folder = _lake(uri, load_config(path))
    for table in TABLES:
        source = duckdb_source(lake_folder, table, day.date() if day else None)
        if source:
            click.echo(f"create or replace view {table} as from {source};")
