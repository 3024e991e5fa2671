"""BigQuery: bqemulator 1.4 in an environment of its own; it keeps tables in a DuckDB file."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from runners.artefacts.fetch import PINS, kept, run
from runners.stack.processes import LOOPBACK, Process, answers, require_free

VERSION = "1.4.0"
PROJECT = "odograph"
LAUNCHER = Path(__file__).with_name("bigquery_emulator.py")


@dataclass(frozen=True)
class BigQuery:
    """The emulator with its data in `folder`; REST is on `port`, the Storage API on the next port.

    When it ends it forgets the write streams of applications, but keeps their rows."""

    folder: Path
    cache: Path
    port: int = 9050

    name: ClassVar[str] = "bigquery"
    span: ClassVar[int] = 2

    @property
    def process(self) -> Process:
        """The emulator's process."""
        return Process(self.name, self.folder)

    @property
    def processes(self) -> list[Process]:
        """All processes of the server."""
        return [self.process]

    @property
    def address(self) -> str:
        """URL of the REST API."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def storage(self) -> str:
        """host:port of the Storage API."""
        return f"{LOOPBACK}:{self.port + 1}"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings `sinks.bigquery` of a sink that writes to it."""
        return {
            "project": PROJECT,
            "api_endpoint": self.address,
            "storage_endpoint": self.storage,
            "insecure": True,
        }

    def fetch(self) -> Path:
        """Folder with the emulator's environment."""
        return kept(self.cache, f"bigquery-bqemulator-{VERSION}", _environment)

    def start(self) -> None:
        """Start it, with the data of earlier starts; `ready` waits for it."""
        require_free(self.name, self.port, self.span)
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        command = [str(self.fetch() / "bin" / "python"), str(LAUNCHER), "start"]
        command += ["--rest-host", LOOPBACK, "--rest-port", str(self.port)]
        command += ["--grpc-host", LOOPBACK, "--grpc-port", str(self.port + 1)]
        command += ["--project", PROJECT, "--log-level", "warning"]
        command += ["--persistent", "--data-dir", str(data)]
        quiet = {"OTEL_SDK_DISABLED": "true", "BQEMU_ENABLE_FORMAT_EXTENSIONS": "false"}
        self.process.start(command, quiet)

    def ready(self, timeout_s: float = 60) -> None:
        """Wait until both APIs answer."""

        def healthy() -> bool:
            try:
                with urllib.request.urlopen(f"{self.address}/readyz", timeout=2):
                    return answers(self.port + 1)
            except (urllib.error.URLError, OSError):
                return False

        self.process.wait(healthy, timeout_s)

    def stop(self) -> None:
        """Shut it down."""
        self.process.stop()

    def kill(self) -> None:
        """Kill it (SIGKILL)."""
        self.process.kill()


def _environment(folder: Path) -> None:
    run([sys.executable, "-m", "venv", str(folder)], "bigquery: no environment for the emulator")
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
    install += ["--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"]
    pins = PINS / "bigquery" / "requirements.txt"
    run([*install, "-r", str(pins)], f"pip could not fetch bqemulator {VERSION}")
