"""The option that says where a backfill ends: until when, and in which stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from connectors.errors import BadArguments
from runners.backfill.request import STORES
from runners.cli.terminal import Instant

Ends = datetime | tuple[str, ...]


class End(Instant):
    """An instant, or names of stores."""

    name = "ISO|STORE,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        words = tuple(word.strip() for word in str(value).split(","))
        if any(word in STORES for word in words):
            return words
        return super().convert(value, param, ctx)


def to_option(command: Callable[..., Any]) -> Any:
    """`--to`, once for a time and once for stores; gives `ends`."""
    text = (
        "End of the span, exclusive, or `now`. Give it a second time to name the stores to write "
        "to, such as lake,bigquery."
    )
    return click.option("--to", "ends", type=End(), multiple=True, help=text)(command)


def of_every_engine(command: Callable[..., Any]) -> Any:
    """What a backfill is told wherever it runs: bindings, lake, types, span, stores, settings and
    where the ledger goes."""
    options: list[Callable[[Any], Any]] = [
        click.option(
            "--bindings", required=True, help="CSV or Parquet: which terminal sat where, when."
        ),
        click.option("--lake", required=True, help="Folder or s3:// prefix of the tables."),
        click.option("--types", default="", help="Only these, such as gps,log [all]."),
        click.option(
            "--from",
            "start",
            type=Instant(),
            help="First arrival hour to read, in fleet_zone where it names no zone.",
        ),
        to_option,
        click.option(
            "--config", "config_path", type=click.Path(dir_okay=False), help="YAML settings."
        ),
        click.option(
            "--ledger",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write the ledger to this file.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def named(types: str) -> list[str]:
    """The names that `--types` lists."""
    return [name.strip() for name in types.split(",") if name.strip()]


def sorted_out(ends: Iterable[Ends]) -> tuple[datetime | None, tuple[str, ...]]:
    """The time and the stores. Raises BadArguments where either is said twice."""
    times = [one for one in ends if isinstance(one, datetime)]
    stores = [one for one in ends if isinstance(one, tuple)]
    if len(times) > 1 or len(stores) > 1:
        raise BadArguments("--to is given twice: once for a time and once for stores is enough")
    return (times[0] if times else None), (stores[0] if stores else ())
