"""What a job knows of terminals and vehicles: one immutable snapshot, kept new in the background.

Readers take `holder.current` once a batch and never see two states mixed, because a new snapshot
replaces the old one in a single assignment.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
import tenacity

from connectors.errors import DependencyFailed, MissingSecret
from connectors.operations_db import read
from connectors.operations_db.bindings_file import load_bindings
from connectors.operations_db.settings import DatabaseSettings
from connectors.storage.settings import S3Settings
from transforms.bindings.bindings import Bindings
from transforms.bindings.vehicles import Vehicles
from transforms.model.known_terminals import KnownTerminals

ATTEMPTS = 4
LONGEST_PAUSE_S = 30.0
_QUIET_S = 0.2
_SLICE_S = 0.5
_BUSY = 4
log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Snapshot:
    """Bindings, what decoding needs to know of terminals, and the vehicles of those bindings.
    `version_ms` is the newest change it holds, UTC epoch ms, 0 where the source tells none."""

    bindings: Bindings
    known: KnownTerminals
    vehicles: Vehicles
    version_ms: int


class Holder(Protocol):
    """Who has the newest snapshot of this process."""

    @property
    def current(self) -> Snapshot:
        """The newest snapshot; take it once a batch. Raises DependencyFailed when it is older than
        the configured age."""

    @property
    def age_s(self) -> float:
        """Seconds since the source last said that the snapshot is what it holds."""

    @property
    def version_ms(self) -> int:
        """The snapshot's newest change, UTC epoch ms."""

    @property
    def failures(self) -> int:
        """How often the source could not be read so far."""


@dataclass(frozen=True)
class FileHolder:
    """The snapshot of a bindings file, which never changes while a job runs. Its version is 0: a
    file does not say when it was true."""

    current: Snapshot
    age_s: float = 0.0
    failures: int = 0
    version_ms: int = 0


class DatabaseHolder:
    """The snapshot of the operations database: read when made, and again every `refresh_s` and on
    NOTIFY by one thread. An outage keeps the last one until it is `max_age_s` old. So does an
    empty table of bindings: that is a wrong database or a load half done, never a fleet."""

    def __init__(self, settings: DatabaseSettings) -> None:
        """Reads the first snapshot. Raises DependencyFailed, MissingSecret: start is refused."""
        self._settings = settings
        self._where = read.describe(settings)
        self._failures = 0
        self._trouble = ""
        self._closed = threading.Event()
        self._read_at = self._read_end = time.monotonic()
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=2),
            retry=tenacity.retry_if_exception_type(DependencyFailed),
            reraise=True,
        )
        self._latest, self._mark = retrying(self._read)
        self._thread = threading.Thread(target=self._follow, name="odograph-snapshot", daemon=True)
        self._thread.start()

    @property
    def current(self) -> Snapshot:
        """The newest snapshot. Raises DependencyFailed when it is older than `max_age_s`."""
        age = self.age_s
        if age > self._settings.max_age_s:
            raise DependencyFailed(
                f"{self._where}: not read for {age:.0f} s, and "
                f"bindings_database.max_age_s is {self._settings.max_age_s:.0f} "
                f"({self._trouble or 'a read is under way'}); make the database reachable and "
                "start the job again, or allow a greater age"
            )
        return self._latest

    @property
    def age_s(self) -> float:
        """Seconds since the begin of the last read that succeeded."""
        return time.monotonic() - self._read_at

    @property
    def version_ms(self) -> int:
        """The snapshot's newest change, UTC epoch ms."""
        return self._latest.version_ms

    @property
    def failures(self) -> int:
        """How often the database could not be read since the first snapshot."""
        return self._failures

    def close(self) -> None:
        """Stop reading; the last snapshot stays, and ages."""
        self._closed.set()
        self._thread.join(timeout=10)

    def _read(self) -> tuple[Snapshot, read.Mark]:
        began = time.monotonic()
        found = read.read(self._settings)
        bindings = Bindings.from_table(found.bindings)
        snapshot = Snapshot(
            bindings,
            KnownTerminals(bindings.known, found.phones),
            Vehicles(bindings, found.vehicles, found.version_ms),
            found.version_ms,
        )
        self._read_at, self._read_end = began, time.monotonic()
        return snapshot, found.mark

    def _refresh(self, told: bool) -> None:
        """Read again, unless nothing was told and nothing has changed."""
        began = time.monotonic()
        if not told and read.unchanged(self._settings, self._mark):
            self._read_at = began
        else:
            self._latest, self._mark = self._read()
            log.info("bindings snapshot of %s, version %d", self._where, self._latest.version_ms)
        self._trouble = ""

    def _follow(self) -> None:
        """Until closed: listen, refresh, and after a failure begin anew with growing pauses."""
        failed = 0
        while not self._closed.is_set():
            try:
                with read.connect(self._settings, autocommit=True) as listening:
                    listening.execute(f"LISTEN {read.CHANNEL}")
                    told = failed > 0
                    while not self._closed.is_set():
                        self._refresh(told)
                        failed = 0
                        told = self._wait(listening)
                return
            except (psycopg.Error, DependencyFailed, MissingSecret) as error:
                failed += 1
                self._note(error)
                pause = min(LONGEST_PAUSE_S, 0.25 * 2**failed) * random.uniform(0.5, 1)
                self._closed.wait(min(pause, self._settings.refresh_s))

    def _note(self, error: Exception) -> None:
        self._failures += 1
        lines = str(error).splitlines()
        self._trouble = lines[0] if lines else type(error).__name__
        log.warning(
            "%s could not be read; the snapshot in use is %.0f s old: %s",
            self._where, self.age_s, self._trouble,
        )  # fmt: skip

    def _wait(self, listening: psycopg.Connection[Any]) -> bool:
        """Until the next refresh is due; True when a change was told. After a change it waits for
        the rest of the burst, and so long that reading takes no more than a fifth of the time."""
        due = time.monotonic() + self._settings.refresh_s
        while not self._closed.is_set() and (left := due - time.monotonic()) > 0:
            if list(listening.notifies(timeout=min(left, _SLICE_S), stop_after=1)):
                busy = _BUSY * (self._read_end - self._read_at)
                rest = min(self._read_end + busy - time.monotonic(), self._settings.refresh_s)
                quiet = time.monotonic() + max(_QUIET_S, rest)
                while not self._closed.is_set() and (left := quiet - time.monotonic()) > 0:
                    list(listening.notifies(timeout=min(left, _SLICE_S)))
                return True
        return False


_lock = threading.Lock()
_held: dict[tuple[int, DatabaseSettings], DatabaseHolder] = {}
_files: dict[tuple[str, S3Settings], FileHolder] = {}


def held(settings: DatabaseSettings) -> DatabaseHolder:
    """This process's holder for these settings, made by the first call, which raises
    DependencyFailed or MissingSecret when there is no first snapshot."""
    # A forked child has its parent's memory but not its threads.
    key = (os.getpid(), settings)
    with _lock:
        if key not in _held:
            _held[key] = DatabaseHolder(settings)
        return _held[key]


def held_file(path: str, settings: S3Settings) -> FileHolder:
    """This process's holder for a bindings file. Raises BadBindings or DependencyFailed."""
    key = (path, settings)
    with _lock:
        if key not in _files:
            found = load_bindings(path, settings)
            vehicles = Vehicles.unknown(found.bindings)
            _files[key] = FileHolder(Snapshot(found.bindings, found.known, vehicles, 0))
        return _files[key]
