"""Joins records to the objects of an archive, against other writers and lost answers."""

from __future__ import annotations

import gzip
import io
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from connectors.archive.parquet import MissingRecords, OtherRecords, joined, old_lines
from connectors.archive.progress import ArchiveConflict
from connectors.errors import DependencyFailed
from connectors.retries import DeliverySettings, TransientError, with_retries
from connectors.storage.folder import Folder
from connectors.storage.s3 import VersionConflict

CACHE_BYTES = 64 << 20
TOPICS = "topics"
OLD_ENDING = ".json.gz"
AGAIN = (
    "delete the partition's _state object and start at the earliest offset: what Kafka holds is"
    " written again"
)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """Asks a store again, says so, and counts `retries`."""

    settings: DeliverySettings
    tally: Counter[str]

    def __call__(self, work: Callable[[], None]) -> None:
        """Raises DependencyFailed when it has waited often enough."""

        def attempt() -> None:
            try:
                work()
            except (DependencyFailed, VersionConflict) as error:
                _LOG.warning("the archive waits: %s", error)
                raise TransientError(str(error)) from error

        with_retries(self.settings, attempt, lambda: self.tally.update(retries=1))


class Cache:
    """Objects by name, up to a number of bytes; the oldest go first."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._held: OrderedDict[str, tuple[pa.Buffer, str]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str) -> tuple[pa.Buffer, str] | None:
        """An object and its version, held no longer."""
        with self._lock:
            found = self._held.pop(name, None)
            self._size -= len(found[0]) if found else 0
            return found

    def keep(self, name: str, data: pa.Buffer, version: str) -> None:
        """Hold an object."""
        with self._lock:
            self._held[name] = (data, version)
            self._size += len(data)
            while self._size > self._limit:
                self._size -= len(self._held.popitem(last=False)[1][0])


@dataclass(frozen=True)
class Objects:
    """The objects below `topics/` of an archive and, where `old` is given, their like in the old
    layout below its `topics/`. `cache` spares reading what was written here last."""

    archive: Folder
    old: Folder | None
    cache: Cache

    def join(self, name: str, rows: pa.Table, due: np.ndarray, tally: Counter[str]) -> None:
        """Add records (`archive_write_object.SCHEMA`, offsets ascending) to an object that may
        have some of them and must have those of `due` (bool, shape (rows,)); counts `size` and
        `left_out`.

        What is written replaces only what was read. Where another writer, or this one with an
        answer that was lost, wrote in between, VersionConflict is raised, and calling it again is
        right, as it is after DependencyFailed. Raises ArchiveConflict where the object is
        another's, or lacks what it must have."""
        path = f"{TOPICS}/{name}"
        old = self._old_version(name)
        cached = self.cache.take(name)
        held = cached or self.archive.read_version(path)
        data, version = (pa.py_buffer(held[0]), held[1]) if held else (None, None)
        try:
            more = self._joined(path, data, rows, due)
        except MissingRecords as error:
            if cached:  # older, it may be, than what is known of other writers' work
                return self.join(name, rows, due, tally)
            raise ArchiveConflict(self._missing(path, error)) from error
        if more is not None:
            data, version = more, self.archive.replace(path, more, version)
            tally["size"] += more.size
        assert data is not None and version is not None
        if self.old and (more is not None or not cached):
            self._write_old(name, data, old, tally)
        self.cache.keep(name, data, version)

    def _joined(
        self, path: str, stored: pa.Buffer | None, rows: pa.Table, due: np.ndarray
    ) -> pa.Buffer | None:
        try:
            return joined(stored, rows, due)
        except OtherRecords as error:
            where = f"{self.archive.uri}/{path}"
            raise ArchiveConflict(
                f"{where}: {error}: was the topic deleted and made again? Archive it to another"
                " folder"
            ) from error
        except (pa.ArrowException, OSError) as error:
            where = f"{self.archive.uri}/{path}"
            raise ArchiveConflict(
                f"{where} cannot be read, so nothing can be added to it: {error}. Move it away"
                f" and {AGAIN}"
            ) from error

    def _missing(self, path: str, error: MissingRecords) -> str:
        return (
            f"{self.archive.uri}/{path} lacks {error}, which the archive must hold: was the topic"
            " deleted and made again? Archive it to another folder. Were objects taken from the"
            f" archive? Then {AGAIN}"
        )

    def _old_version(self, name: str) -> str | None:
        """The version before anything else is read: what is written in its place is then at
        least as new."""
        return self.old.version(_old_name(name)) if self.old else None

    def _write_old(
        self, name: str, data: pa.Buffer, replaced: str | None, tally: Counter[str]
    ) -> None:
        assert self.old is not None
        out = io.BytesIO()
        left_out = 0
        with gzip.GzipFile("", "wb", fileobj=out, mtime=0) as packed:
            for lines, none in old_lines(data):
                packed.write(lines)
                left_out += none
        self.old.replace(_old_name(name), out.getvalue(), replaced)
        tally["left_out"] += left_out
        tally["size"] += out.tell()


def _old_name(name: str) -> str:
    return f"{TOPICS}/{name.removesuffix('.parquet')}{OLD_ENDING}"
