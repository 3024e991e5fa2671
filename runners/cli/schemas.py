"""`odograph schemas`: check the schema files, register them."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from runners.config import load_config

REFUSED = 2


@click.group()
def schemas() -> None:
    """The schema files."""


@schemas.command("check")
@click.argument("directory", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the older files.",
)
def schemas_check(directory: Path | None, against: Path | None) -> None:
    """Lint schema files and, with --against OLD, the evolution from OLD to them."""
    from schemas import AVRO_DIRECTORY
    from schemas.lint import check

    folder = directory or AVRO_DIRECTORY
    if not folder.is_dir():
        raise click.BadParameter(f"{folder} is no folder", param_hint="DIRECTORY")
    problems = check(folder, against)
    for problem in problems:
        click.echo(str(problem))
    count = len(list(folder.glob("*.avsc")))
    click.echo(f"schema files: {count}, problems: {len(problems)}")
    if problems:
        sys.exit(REFUSED)


@schemas.command("register")
@click.option("--registry", "url", help="Address of Confluent's API [registry.url of --config].")
@click.option("--config", "path", type=click.Path(dir_okay=False), help="YAML settings.")
def schemas_register(url: str | None, path: str | None) -> None:
    """Register the schemas of all topics' values, each under <topic>-value.

    They are first checked against every version that is registered; where one must not be
    replaced, the problems are listed, nothing is registered and the exit code is 2. Registering
    again changes nothing.
    """
    from connectors.schema_registry.register import NotRegistered, register_all

    settings = load_config(path).registry
    if url:
        settings = settings.model_copy(update={"url": url})
    try:
        done = register_all(settings)
    except NotRegistered as error:
        for problem in error.problems:
            click.echo(str(problem))
        click.echo(f"problems: {len(error.problems)}; not registered")
        sys.exit(REFUSED)
    table = Table(title=f"Schemas at {settings.url}")
    table.add_column("subject")
    table.add_column("version", justify="right")
    table.add_column("id", justify="right")
    for registered in done:
        table.add_row(registered.subject, str(registered.version), str(registered.id))
    Console(width=None if sys.stdout.isatty() else 100).print(table)
