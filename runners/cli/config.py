"""`odograph config`: the settings file."""

from __future__ import annotations

import click

from runners.config import Config, load_config


@click.group()
def config() -> None:
    """The settings file."""


@config.command("check")
@click.argument("path", type=click.Path(dir_okay=False))
def config_check(path: str) -> None:
    """Check a settings file and print all settings, defaults included."""
    checked: Config = load_config(path)
    click.echo(checked.model_dump_json(indent=1))
