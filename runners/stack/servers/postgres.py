"""Postgres 15, Debian's: the operations database `fleet` of the user `odograph`."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psycopg

from connectors.errors import DependencyFailed
from runners.artefacts.fetch import run
from runners.stack.processes import LOOPBACK, require_free
from runners.stack.servers.one_process import OneProcess

VERSION = 15
PROGRAMS = Path(f"/usr/lib/postgresql/{VERSION}/bin")
SERVICE_USER = "postgres"
DATABASE, USER = "fleet", "odograph"


@dataclass(frozen=True)
class Postgres(OneProcess):
    """A database server with its data in `folder`; it uses `port`."""

    port: int = 5432

    name: ClassVar[str] = "postgres"
    span: ClassVar[int] = 1

    @property
    def address(self) -> str:
        """libpq connection string, without the password."""
        return f"host={LOOPBACK} port={self.port} dbname={DATABASE} user={USER}"

    @property
    def password_file(self) -> Path:
        """File with the password of the user `odograph`, readable by its owner alone."""
        return self.folder / "password"

    @property
    def conninfo(self) -> str:
        """libpq connection string with the password."""
        return f"{self.address} password={self.password_file.read_text().strip()}"

    def fetch(self) -> Path:
        """Folder of Debian's programs; where they are missing, apt installs them for root."""
        if not (PROGRAMS / "postgres").exists():
            apt = shutil.which("apt-get")
            if apt is None or os.getuid() != 0:
                raise DependencyFailed(
                    f"postgres: there is no {PROGRAMS}/postgres; install Postgres {VERSION} "
                    f"(on Debian, as root: apt-get install postgresql-{VERSION})"
                )
            failure = f"apt could not install postgresql-{VERSION}"
            quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            run([apt, "update", "-qq"], failure, quiet)
            install = ["install", "-qq", "-y", "--no-install-recommends"]
            run([apt, *install, f"postgresql-{VERSION}"], failure, quiet)
        return PROGRAMS

    def start(self) -> None:
        """Start it, with the data of earlier starts; `ready` waits for it."""
        require_free(self.name, self.port, self.span)
        programs = self.fetch()
        data = self.folder / "data"
        if not (data / "PG_VERSION").exists():
            self._make(programs, data)
        settings = {
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 50,
        }
        command = [*self._as_user(), str(programs / "postgres"), "-D", str(data)]
        command += ["-p", str(self.port)]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        self.process.start(command, {"LC_ALL": "C.UTF-8"}, cwd=Path("/"))

    def ready(self, timeout_s: float = 60) -> None:
        """Wait until it accepts connections; create the database when it is missing."""
        self.process.wait(self._accepts_connections, timeout_s)
        admin = self.conninfo.replace(f"dbname={DATABASE}", "dbname=postgres")
        with psycopg.connect(admin, autocommit=True) as connection:
            known = "select 1 from pg_database where datname = %s"
            if connection.execute(known, (DATABASE,)).fetchone() is None:
                connection.execute(f"create database {DATABASE}")

    def stop(self) -> None:
        """Shut down without waiting for clients."""
        self.process.stop(signal.SIGINT)

    def kill(self) -> None:
        """Kill it and its helper processes (SIGKILL), so that it can start again."""
        self.process.kill()
        self.process.stop()

    def _accepts_connections(self) -> bool:
        admin = self.conninfo.replace(f"dbname={DATABASE}", "dbname=postgres")
        try:
            psycopg.connect(admin, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _make(self, programs: Path, data: Path) -> None:
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True, mode=0o700)
        password = self.password_file
        password.unlink(missing_ok=True)
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24) + "\n")
        password_copy = data.parent / "password.initdb"
        shutil.copy(password, password_copy)
        try:
            if os.getuid() == 0:
                for path in (data, password_copy):
                    shutil.chown(path, SERVICE_USER, SERVICE_USER)
            command = [*self._as_user(), str(programs / "initdb"), "-D", str(data), "-U", USER]
            command += [f"--pwfile={password_copy}", "-A", "scram-sha-256", "-E", "UTF8"]
            command += ["--locale=C.UTF-8", "--no-sync"]
            run(command, f"postgres: its data could not be made in {data}")
        finally:
            password_copy.unlink()

    def _as_user(self) -> list[str]:
        """The command that runs another as Postgres' own user, for Postgres refuses root. That user
        may lack rights to the parents of `folder`, so it keeps the right to pass through
        folders."""
        if os.getuid() != 0:
            return []
        user = pwd.getpwnam(SERVICE_USER)
        right = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        return [
            "setpriv",
            f"--reuid={user.pw_uid}",
            f"--regid={user.pw_gid}",
            "--clear-groups",
            *right,
        ]
