"""Common parts of the servers that consist of one process."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from runners.stack.processes import Process


@dataclass(frozen=True)
class OneProcess:
    """A server with its data, log and pid file in `folder`, and its program in `cache`."""

    folder: Path
    cache: Path

    name: ClassVar[str]

    @property
    def process(self) -> Process:
        """The server's process."""
        return Process(self.name, self.folder)

    @property
    def processes(self) -> list[Process]:
        """All processes of the server."""
        return [self.process]

    def stop(self) -> None:
        """Shut it down."""
        self.process.stop()

    def kill(self) -> None:
        """Kill it (SIGKILL)."""
        self.process.kill()


def serves(url: str) -> bool:
    """Whether a GET of `url` succeeds within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False
