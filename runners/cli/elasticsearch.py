"""`odograph elasticsearch`: the indices of the Elasticsearch sink."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from connectors.errors import BadArguments
from connectors.sinks.elasticsearch.settings import ElasticsearchSettings
from runners.config import load_config


@click.group()
def elasticsearch() -> None:
    """Index templates and indices in Elasticsearch."""


def _config_option(command: click.decorators.FC) -> click.decorators.FC:
    text = "YAML settings: sinks.elasticsearch."
    option = click.option(
        "--config", "path", required=True, type=click.Path(dir_okay=False), help=text
    )
    return option(command)


@elasticsearch.command("prepare")
@_config_option
def prepare(path: str) -> None:
    """Put the index templates, the index of vehicles, and new fields into existing indices; with
    index_by: rollover, first generations.

    The sink does the same when it starts; where there is all of it, nothing changes.
    """
    from connectors.sinks.elasticsearch.sink import ElasticsearchSink
    from connectors.sinks.tables import TABLES

    settings = _settings(path)
    sink = ElasticsearchSink(settings)
    try:
        sink.prepare(list(TABLES.values()))
    finally:
        sink.close()
    done = f"templates of {len(TABLES)} tables and the index of vehicles are as declared"
    click.echo(f"elasticsearch {', '.join(settings.hosts)}: {done}")


@elasticsearch.command("prune")
@_config_option
@click.option(
    "--keep-days",
    type=click.IntRange(min=1),
    help="Days to keep [sinks.elasticsearch.searchable_days].",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
def prune(path: str, keep_days: int | None, dry_run: bool) -> None:
    """Delete daily indices of more than KEEP_DAYS days ago (UTC), by the date in their names.
    Generations (index_by: rollover) stay.
    """
    from connectors.sinks.elasticsearch.client import connect
    from connectors.sinks.elasticsearch.prune import delete, old
    from connectors.sinks.tables import TABLES

    settings = _settings(path)
    if keep_days is not None and keep_days < settings.searchable_days:
        click.echo(
            f"the sink still writes late uploads of the last {settings.searchable_days} days: "
            f"set sinks.elasticsearch.searchable_days to {keep_days} too",
            err=True,
        )
    connection = connect(settings)
    try:
        kept = keep_days or settings.searchable_days
        names = list(old(connection, list(TABLES.values()), kept, datetime.now(UTC).date()))
        if not dry_run:
            delete(connection, names)
    finally:
        connection.close()
    for name in names:
        click.echo(name)
    click.echo(f"{len(names)} indices {'would be ' if dry_run else ''}deleted")
    if settings.index_by == "rollover":
        click.echo(
            "generations stay: sinks.elasticsearch.lifecycle_policy is what deletes them", err=True
        )


def _settings(path: str) -> ElasticsearchSettings:
    settings = load_config(path).sinks.settings_of(ElasticsearchSettings)
    if settings is None:
        raise BadArguments(
            f"{path}: sinks.elasticsearch is not set; write hosts: [https://search.example:9200]"
        )
    return settings
