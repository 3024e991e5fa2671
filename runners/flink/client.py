"""Flink's client for PyFlink programs: the command that runs one, and the world it runs in."""

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
    """`flink` of the PyFlink environment, led to one cluster by the settings in `place`, a folder
    for what a program is told and tells."""

    flink: Path
    python: str
    place: Path

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
            "FLINK_CONF_DIR": str(self.place),
            "FLINK_LOG_DIR": str(self.place),
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
    with TemporaryDirectory(prefix="odograph-submit-") as folder:
        place = Path(folder)
        (place / "config.yaml").write_text(yaml.safe_dump(_settings(url, place)))
        for source in (flink / "conf").glob("log4j-cli*"):
            (place / source.name).write_bytes(source.read_bytes())
        yield Client(flink, python, place)


def told(output: Sequence[str], lines: int = 15) -> str:
    """The end of what a client said, without Java's stack."""
    kept = [line.rstrip("\n") for line in output if not line.startswith(("\tat", "SLF4J"))]
    return "\n".join(kept[-lines:])


def _settings(url: str, place: Path) -> dict[str, object]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return {
        "rest.address": parts.hostname,
        "rest.port": parts.port or (443 if secure else 8081),
        "security.ssl.rest.enabled": secure,
        "jobmanager.rpc.address": parts.hostname,
        "env.java.opts.all": JAVA_OPTIONS,
        "env.java.opts.client": " ".join(java_runtime.LIGHT),
        "env.log.dir": str(place),
    }
