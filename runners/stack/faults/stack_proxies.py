"""Fault proxies before servers of the stack, as a process beside them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from runners.stack.processes import LOOPBACK, Process, answers, require_free

BEFORE = ("elasticsearch", "s3")
"""The servers with a proxy, in the order of the proxies' ports."""


@dataclass(frozen=True)
class FaultProxies:
    """A proxy before each server of BEFORE that is in `upstreams` (name -> URL), on ports from
    `port` on. The file `rules`, which may change while they run, has their faults."""

    folder: Path
    cache: Path
    port: int = 9300
    upstreams: Mapping[str, str] = field(default_factory=dict)

    name: ClassVar[str] = "faults"
    span: ClassVar[int] = len(BEFORE)

    @property
    def process(self) -> Process:
        """The process of all proxies."""
        return Process(self.name, self.folder)

    @property
    def processes(self) -> list[Process]:
        """All processes of the server."""
        return [self.process]

    @property
    def addresses(self) -> dict[str, str]:
        """Name of the server behind -> URL of its proxy."""
        present = {name: self.port + number for number, name in enumerate(BEFORE)}
        return {
            name: f"http://{LOOPBACK}:{present[name]}" for name in BEFORE if name in self.upstreams
        }

    @property
    def address(self) -> str:
        """Names of servers with the URLs of their proxies."""
        return " ".join(f"{name}={url}" for name, url in self.addresses.items())

    @property
    def rules(self) -> Path:
        """The file of rules (runners/stack/faults/server.py)."""
        return self.folder / "rules.yaml"

    def fetch(self) -> Path:
        """The folder of this package; nothing is fetched."""
        return Path(__file__).parent

    def start(self) -> None:
        """Start them; `ready` waits for them."""
        require_free(self.name, self.port, self.span)
        ports = {name: url.rpartition(":")[2] for name, url in self.addresses.items()}
        words = [f"{name}={port}={self.upstreams[name]}" for name, port in ports.items()]
        command = [sys.executable, "-m", "runners.stack.faults.server", str(self.rules), *words]
        root = str(Path(__file__).resolve().parents[3])
        self.process.start(command, {"PYTHONPATH": os.pathsep.join([root, *_python_path()])})

    def ready(self, timeout_s: float = 60) -> None:
        """Wait until all of them accept connections."""
        ports = [int(url.rpartition(":")[2]) for url in self.addresses.values()]
        self.process.wait(lambda: all(answers(port) for port in ports), timeout_s)

    def stop(self) -> None:
        """End the proxies."""
        self.process.stop()

    def kill(self) -> None:
        """Kill it (SIGKILL)."""
        self.process.kill()


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
