"""What commands share on a terminal: times as words, progress bars."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.progress import Progress

from connectors.settings import DependencyFailed

console = Console(stderr=True)
ASK_S = 1.0


class Instant(click.ParamType[datetime]):
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


class Day(click.DateTime):
    """An ISO date."""

    def __init__(self) -> None:
        super().__init__(["%Y-%m-%d"])

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "YYYY-MM-DD"


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


@contextmanager
def counting() -> Iterator[Callable[[str, int, Callable[[], int]], None]]:
    """Progress of something done elsewhere, step by step. Call the result at the start of a step
    with its title, how much there is to do, and what tells how much is done; nothing is shown
    without a terminal."""
    with ExitStack() as step:

        def begin(title: str, total: int, done: Callable[[], int]) -> None:
            step.close()
            if console.is_terminal:
                step.enter_context(_asking(f"{title}: {total}", total, done))

        yield begin


@contextmanager
def _asking(title: str, total: int, done: Callable[[], int]) -> Iterator[None]:
    over = threading.Event()
    with bar(title, total) as advance:

        def ask() -> None:
            while not over.wait(ASK_S):
                with suppress(DependencyFailed):
                    advance(done())

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        try:
            yield
        finally:
            over.set()
            asking.join()
