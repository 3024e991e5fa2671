"""What all stages that write to a store have in common: they say for how long it has kept them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipelines.live.stage import Stage


@dataclass
class StoreStage(Stage):
    """A stage that writes to a store."""

    waiting_since: float | None = None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around each write; one that failed goes on waiting until the next."""
        self.waiting_since = time.monotonic()
        yield
        self.waiting_since = None

    def gauges(self) -> dict[str, Callable[[], int]]:
        """Those of the stage, and for how long what is being written has been at it."""
        return {**super().gauges(), "oldest_unwritten_ms": self.oldest_unwritten_ms}

    def oldest_unwritten_ms(self) -> int:
        """See `gauges`."""
        since = self.waiting_since
        return 0 if since is None else round((time.monotonic() - since) * 1000)
