"""Flink's client for PyFlink programs: the command that runs one, and its environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import yaml

from connectors.errors import DependencyFailed
from runners.artefacts import java_runtime
from runners.artefacts.fetch import default_cache
from runners.flink.environment import JAVA_OPTIONS, flink_python


@dataclass(frozen=True)
class Client:
    """`flink` of the PyFlink environment. `folder` holds the settings that lead it to one cluster,
    and the files that go to a program and come from it."""

    flink: Path
    python: str
    folder: Path

    def command(self, *words: str) -> list[str]:
        """`flink run` with these words; the program runs in the PyFlink environment."""
        flink = str(self.flink / "bin" / "flink")
        return ["bash", flink, "run", "-pyclientexec", self.python, *words]

    @property
    def environment(self) -> dict[str, str]:
        """The variables it needs, beside those of this process."""
        home = os.environ.get("JAVA_HOME") or str(java_runtime.fetch(default_cache()))
        path = os.pathsep.join([str(Path(self.python).parent), os.environ.get("PATH", os.defpath)])
        return {
            **os.environ,
            "JAVA_HOME": home,
            "FLINK_CONF_DIR": str(self.folder),
            "FLINK_LOG_DIR": str(self.folder),
            "PATH": path,
        }


@contextmanager
def client(url: str) -> Iterator[Client]:
    """A client of the cluster at `url`. Raises DependencyFailed where there is no PyFlink."""
    python = str(flink_python())
    home = Path(python).parent.parent / "lib"
    flink = next(home.glob("python3*/site-packages/pyflink"), None)
    if flink is None:
        raise DependencyFailed(f"{python} has no PyFlink below {home}")
    with TemporaryDirectory(prefix="odograph-submit-") as temporary:
        folder = Path(temporary)
        (folder / "config.yaml").write_text(yaml.safe_dump(_settings(url, folder)))
        for source in (flink / "conf").glob("log4j-cli*"):
            (folder / source.name).write_bytes(source.read_bytes())
        yield Client(flink, python, folder)


def end_of_output(output: Sequence[str], lines: int = 15) -> str:
    """The last lines that a client printed, without Java's stack."""
    kept = [line.rstrip("\n") for line in output if not line.startswith(("\tat", "SLF4J"))]
    return "\n".join(kept[-lines:])


def _settings(url: str, logs: Path) -> dict[str, object]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return {
        "rest.address": parts.hostname,
        "rest.port": parts.port or (443 if secure else 8081),
        "security.ssl.rest.enabled": secure,
        "jobmanager.rpc.address": parts.hostname,
        "env.java.opts.all": JAVA_OPTIONS,
        "env.java.opts.client": " ".join(java_runtime.LIGHT),
        "env.log.dir": str(logs),
    }
