"""The options that a backfill has wherever it runs, and the spec they amount to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from connectors.archive.offset_blocks import Spans
from connectors.errors import BadArguments
from pipelines.backfill.spec import BackfillSpec
from runners.backfill.request import STORES, with_settings
from runners.cli.options import as_one
from runners.cli.terminal import Instant, zoned
from runners.config import Config

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


@dataclass(frozen=True)
class BackfillOptions:
    """What the command line says of a backfill, but for what it reads and how it runs."""

    bindings: str
    lake: str
    types: str
    start: datetime | None
    ends: tuple[Ends, ...]
    config_path: str | None
    ledger: Path | None

    def spec(self, config: Config, archive: str, offsets: Spans | None = None) -> BackfillSpec:
        """The backfill that the options ask for, of an archive or of Kafka (`request.source`).
        Raises BadArguments."""
        end, stores = sorted_out(self.ends)
        spec = BackfillSpec(
            archive=archive,
            bindings=self.bindings,
            lake=self.lake,
            types=tuple(name.strip() for name in self.types.split(",") if name.strip()),
            start=zoned(self.start, config.fleet_zone),
            end=zoned(end, config.fleet_zone),
            offsets=offsets,
        )
        return with_settings(spec, config, stores)


def backfill_options(command: Callable[..., Any]) -> Any:
    """Give a command those options, and BackfillOptions as its first argument."""
    command = as_one(BackfillOptions)(command)
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


def sorted_out(ends: Iterable[Ends]) -> tuple[datetime | None, tuple[str, ...]]:
    """The time and the stores. Raises BadArguments where either is there twice."""
    times = [end for end in ends if isinstance(end, datetime)]
    stores = [end for end in ends if isinstance(end, tuple)]
    if len(times) > 1 or len(stores) > 1:
        raise BadArguments("--to is given twice: once for a time and once for stores is enough")
    return (times[0] if times else None), (stores[0] if stores else ())
