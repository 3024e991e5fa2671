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
"""The servers that get one, in the order of their ports."""


@dataclass(frozen=True)
class FaultProxies:
    """Proxies from `port` on, one a server of BEFORE, to those of them that are in `upstreams`
    (URLs by name). What goes wrong is said in `rules`, while they run."""

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
        """URLs of the proxies by the name of the server behind."""
        present = {name: self.port + number for number, name in enumerate(BEFORE)}
        return {
            name: f"http://{LOOPBACK}:{present[name]}" for name in BEFORE if name in self.upstreams
        }

    @property
    def address(self) -> str:
        """The proxies and what they stand before."""
        return " ".join(f"{name}={url}" for name, url in self.addresses.items())

    @property
    def rules(self) -> Path:
        """The file of rules (runners/stack/faults/server.py)."""
        return self.folder / "rules.yaml"

    def fetch(self) -> Path:
        """It is made of nothing but this package."""
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
        """Wait until all of them let clients in."""
        ports = [int(url.rpartition(":")[2]) for url in self.addresses.values()]
        self.process.wait(lambda: all(answers(port) for port in ports), timeout_s)

    def stop(self) -> None:
        """End them."""
        self.process.stop()

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
