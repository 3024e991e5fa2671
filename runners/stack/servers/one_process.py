"""What the servers of the stack that are one process have in common."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from runners.stack.processes import Process


@dataclass(frozen=True)
class OneProcess:
    """A server whose data, log and pid file lie in `folder`; what it is made of is in `cache`."""

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
        """Shut down in order."""
        self.process.stop()

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()


def serves(url: str) -> bool:
    """Whether a GET of `url` succeeds within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False
