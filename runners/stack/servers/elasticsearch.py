"""Elasticsearch 9.3: one node on loopback, optionally with users, API keys and TLS."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import yaml

from runners.artefacts import java_runtime
from runners.stack.processes import LOOPBACK, Process, require_free
from runners.stack.servers import elasticsearch_parts

USER = "odograph"
HASH_ROUNDS = 10_000
JAVA_OPTIONS = """\
-Xms{heap_mb}m
-Xmx{heap_mb}m
-XX:+UseSerialGC
-XX:+ExitOnOutOfMemoryError
-Djava.io.tmpdir=${{ES_TMPDIR}}
-Dorg.apache.lucene.store.defaultReadAdvice=normal
-Dorg.apache.lucene.store.MMapDirectory.sharedArenaMaxPermits=1
"""
AS_NOBODY = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
"""Elasticsearch refuses root, so root starts it as nobody in a user namespace."""


@dataclass(frozen=True)
class Tls:
    """Files (PEM) of the node's certificate and key, and of the authority that signed it."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True)
class Elasticsearch:
    """A node with its data in `folder`; it uses `port` and the next port. With `secured`, which
    `tls` implies, it has API keys and the superuser `odograph` with a password file. `settings` are
    further settings of Elasticsearch, `java_options` further options of Java."""

    folder: Path
    cache: Path
    port: int = 9200
    heap_mb: int = 512
    secured: bool = False
    tls: Tls | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    java_options: tuple[str, ...] = ()

    name: ClassVar[str] = "elasticsearch"
    span: ClassVar[int] = 2

    @property
    def process(self) -> Process:
        """The process that starts and watches the process of the server."""
        return Process(self.name, self.folder)

    @property
    def processes(self) -> list[Process]:
        """All processes of the server."""
        return [self.process]

    @property
    def address(self) -> str:
        """URL of the node."""
        return f"{'https' if self.tls else 'http'}://{LOOPBACK}:{self.port}"

    @property
    def password_file(self) -> Path:
        """File with the password of the user `odograph`, readable by its owner alone."""
        return self.folder / "password"

    @property
    def has_users(self) -> bool:
        """Whether requests need a user."""
        return self.secured or self.tls is not None

    def fetch(self) -> Path:
        """Folder with the unpacked distribution."""
        return elasticsearch_parts.fetch(self.cache)

    def start(self) -> None:
        """Start it, with the data of earlier starts; `ready` waits for it."""
        require_free(self.name, self.port, self.span)
        home = self.fetch()
        self._write_settings(home)
        env = {
            "ES_JAVA_HOME": str(java_runtime.fetch(self.cache)),
            "ES_PATH_CONF": str(self.folder / "config"),
            "ES_TMPDIR": str(self.folder / "tmp"),
            "CLI_JAVA_OPTS": " ".join(java_runtime.LIGHT),
        }
        command = AS_NOBODY if os.getuid() == 0 else []
        self.process.start([*command, str(home / "bin" / "elasticsearch")], env)

    def ready(self, timeout_s: float = 180) -> None:
        """Wait until all its indices can be read and written."""

        def healthy() -> bool:
            try:
                self.ask("GET", "/_cluster/health?wait_for_status=yellow&timeout=2s")
            except (urllib.error.URLError, OSError):
                return False
            return True

        self.process.wait(healthy, timeout_s)

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The body of its answer to a request of its superuser. Raises urllib.error.HTTPError,
        OSError."""
        request = urllib.request.Request(f"{self.address}{path}", body, method=method)
        request.add_header("Content-Type", "application/json")
        if self.has_users:
            password = self.password_file.read_text().strip()
            name = base64.b64encode(f"{USER}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {name}")
        trust = ssl.create_default_context(cafile=self.tls.authority) if self.tls else None
        with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
            return bytes(answer.read())

    def stop(self) -> None:
        """Shut it down."""
        self.process.stop()

    def kill(self) -> None:
        """Kill both processes (SIGKILL)."""
        self.process.kill()
        self.process.stop()

    def _write_settings(self, home: Path) -> None:
        config = self.folder / "config"
        for name in ("config", "data", "logs", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("log4j2.properties", "role_mapping.yml", "roles.yml"):
            shutil.copy(home / "config" / name, config / name)
        java_options = JAVA_OPTIONS.format(heap_mb=self.heap_mb) + "\n".join(self.java_options)
        (config / "jvm.options").write_text(java_options + "\n")
        settings: dict[str, object] = {
            "cluster.name": "odograph",
            "node.name": "node-1",
            "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder / "logs"),
            "http.host": LOOPBACK,
            "http.port": self.port,
            "transport.host": LOOPBACK,
            "transport.port": self.port + 1,
            "discovery.type": "single-node",
            "cluster.routing.allocation.disk.threshold_enabled": False,
            "action.destructive_requires_name": True,
            "xpack.security.enabled": self.has_users,
        }
        if self.has_users:
            self._write_user(config)
            settings["xpack.security.autoconfiguration.enabled"] = False
            settings["xpack.security.authc.api_key.enabled"] = True
        if self.tls:
            # It may read no file outside its config folder.
            for name in ("certificate", "key"):
                shutil.copy(getattr(self.tls, name), config / f"{name}.pem")
                settings[f"xpack.security.http.ssl.{name}"] = f"{name}.pem"
            settings["xpack.security.http.ssl.enabled"] = True
        text = yaml.safe_dump({**settings, **self.settings})
        (config / "elasticsearch.yml").write_text(text)

    def _write_user(self, config: Path) -> None:
        if not self.password_file.exists():
            self.password_file.touch(mode=0o600)
            self.password_file.write_text(secrets.token_urlsafe(24) + "\n")
        password, salt = self.password_file.read_text().strip(), secrets.token_bytes(32)
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, HASH_ROUNDS, 32)
        encoded = [base64.b64encode(part).decode() for part in (salt, digest)]
        (config / "users").write_text(f"{USER}:{{PBKDF2}}{HASH_ROUNDS}${'$'.join(encoded)}\n")
        (config / "users_roles").write_text(f"superuser:{USER}\n")
