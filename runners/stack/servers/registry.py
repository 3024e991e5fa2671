"""Apicurio registry 3.3 with Confluent's API; schemas are kept in a file database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from runners.artefacts import java_runtime
from runners.artefacts.fetch import PINS, kept, maven_archive
from runners.stack.processes import LOOPBACK, require_free
from runners.stack.servers.one_process import OneProcess, serves

VERSION = "3.3.3"
API = "/apis/ccompat/v7"


@dataclass(frozen=True)
class Registry(OneProcess):
    """A schema registry with its data in `folder`; it uses `port` and the next port."""

    port: int = 8085
    heap_mb: int = 256

    name: ClassVar[str] = "registry"
    span: ClassVar[int] = 2

    @property
    def address(self) -> str:
        """URL of Confluent's API."""
        return f"http://{LOOPBACK}:{self.port}{API}"

    def fetch(self) -> Path:
        """Folder with the unpacked server."""
        java_runtime.fetch(self.cache)
        coordinates = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
        return kept(
            self.cache,
            f"registry-{VERSION}",
            lambda folder: maven_archive(folder, coordinates, PINS / "registry.sha256"),
        )

    def start(self) -> None:
        """Start it, with the data of earlier starts; `ready` waits for it."""
        require_free(self.name, self.port, self.span)
        settings = {
            "quarkus.http.host": LOOPBACK,
            "quarkus.http.port": self.port,
            "quarkus.management.host": LOOPBACK,
            "quarkus.management.port": self.port + 1,
            "apicurio.storage.kind": "sql",
            "apicurio.storage.sql.kind": "h2",
            "apicurio.datasource.url": f"jdbc:h2:file:{self.folder}/schemas;AUTO_SERVER=FALSE",
            "apicurio.ccompat.legacy-id-mode.enabled": "false",
        }
        command = [str(java_runtime.fetch(self.cache) / "bin" / "java"), *java_runtime.LIGHT]
        command += ["-Xms128m", f"-Xmx{self.heap_mb}m"]
        command += [f"-D{key}={value}" for key, value in settings.items()]
        self.process.start([*command, "-jar", str(self.fetch() / "quarkus-run.jar")])

    def ready(self, timeout_s: float = 90) -> None:
        """Wait until it lists its subjects."""
        self.process.wait(lambda: serves(f"{self.address}/subjects"), timeout_s)
