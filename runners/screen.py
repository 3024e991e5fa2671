"""What commands share on a terminal: times as words, progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.progress import Progress

console = Console(stderr=True)


class Instant(click.ParamType):
    """An ISO date or time, or `now`; without a zone it is meant in the fleet's."""

    name = "ISO"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if value == "now":
            return datetime.now(UTC)
        try:
            return value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no ISO time such as 2024-01-15T09:00+09:00", param, ctx)


def zoned(moment: datetime | None, zone: str) -> datetime | None:
    """The instant in UTC; a time without a zone is in `zone`."""
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))
    return aware.astimezone(UTC)


@contextmanager
def bar(title: str, total: float) -> Iterator[Any]:
    """A progress bar on a terminal, nothing elsewhere; call the result with what is done."""
    if not console.is_terminal:
        yield lambda done: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)
