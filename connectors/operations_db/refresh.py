"""Bindings and vehicles of a job: an immutable snapshot, read again in the background.

Readers take `holder.current` once a batch. A new snapshot replaces the old one in a single
assignment, so that a batch never sees parts of both.
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
    """Bindings, the terminals and phone numbers that decoding needs, and the vehicles of those
    bindings. `version_ms` is the time of the newest change in it, UTC epoch ms, 0 where unknown."""

    bindings: Bindings
    known: KnownTerminals
    vehicles: Vehicles
    version_ms: int


class Holder(Protocol):
    """Gives the newest snapshot of this process."""

    @property
    def current(self) -> Snapshot:
        """The newest snapshot; take it once a batch. Raises DependencyFailed when it is older than
        the configured age."""

    @property
    def age_s(self) -> float:
        """Seconds since the snapshot was last known to be what the source holds."""

    @property
    def version_ms(self) -> int:
        """The snapshot's newest change, UTC epoch ms."""

    @property
    def failures(self) -> int:
        """How often the source could not be read so far."""


@dataclass(frozen=True)
class FileHolder:
    """The snapshot of a bindings file, which is read once. Its version is 0: a file does not say
    when it was changed."""

    current: Snapshot
    age_s: float = 0.0
    failures: int = 0
    version_ms: int = 0


class DatabaseHolder:
    """The snapshot of the operations database, read by the constructor, and again by one thread
    every `refresh_s` seconds and after each NOTIFY. In an outage the last snapshot is used until it
    is `max_age_s` seconds old; so it is when the table of bindings is empty, which happens in a
    wrong database or during a load, never in a fleet."""

    def __init__(self, settings: DatabaseSettings) -> None:
        """Reads the first snapshot. Raises DependencyFailed, MissingSecret: the job does not
        start."""
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
        """Stop reading; the last snapshot stays, and grows old."""
        self._closed.set()
        self._thread.join(timeout=10)

    def _read(self) -> tuple[Snapshot, read.Mark]:
        began = time.monotonic()
        contents = read.read(self._settings)
        bindings = Bindings.from_table(contents.bindings)
        snapshot = Snapshot(
            bindings,
            KnownTerminals(bindings.known, contents.phones),
            Vehicles(bindings, contents.vehicles, contents.version_ms),
            contents.version_ms,
        )
        self._read_at, self._read_end = began, time.monotonic()
        return snapshot, contents.mark

    def _refresh(self, notified: bool) -> None:
        """Read again, unless the tables are unchanged; after a notification, in any case."""
        began = time.monotonic()
        if not notified and read.unchanged(self._settings, self._mark):
            self._read_at = began
        else:
            self._latest, self._mark = self._read()
            log.info("bindings snapshot of %s, version %d", self._where, self._latest.version_ms)
        self._trouble = ""

    def _follow(self) -> None:
        """Until closed: listen and refresh; after a failure connect again, with growing pauses."""
        failed = 0
        while not self._closed.is_set():
            try:
                with read.connect(self._settings, autocommit=True) as listening:
                    listening.execute(f"LISTEN {read.CHANNEL}")
                    notified = failed > 0
                    while not self._closed.is_set():
                        self._refresh(notified)
                        failed = 0
                        notified = self._wait(listening)
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
        """Wait until the next refresh is due; True when the database notified of a change. Then it
        waits for the rest of a burst of changes, and so long that reads take at most a fifth of the
        time."""
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
            terminals = load_bindings(path, settings)
            vehicles = Vehicles.unknown(terminals.bindings)
            _files[key] = FileHolder(Snapshot(terminals.bindings, terminals.known, vehicles, 0))
        return _files[key]
