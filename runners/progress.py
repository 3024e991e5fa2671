"""Progress of long work, on standard error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import Progress

from connectors.errors import DependencyFailed

console = Console(stderr=True)
ASK_S = 1.0


@contextmanager
def bar(title: str, total: float) -> Iterator[Any]:
    """A progress bar up to `total` on a terminal, nothing elsewhere; call the result with how much
    is done."""
    if not console.is_terminal:
        yield lambda done: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def counting() -> Iterator[Callable[[str, int, Callable[[], int]], None]]:
    """Progress bars of work that another process does, step by step. Call the result at the start
    of a step with its title, its total, and a function that returns how much of it is done, which
    is called each `ASK_S` seconds; nothing is shown without a terminal."""
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
