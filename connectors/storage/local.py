"""Whole files on a local file system: written under a hidden name, then renamed."""

from __future__ import annotations

import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyarrow as pa

from connectors.storage.s3 import VersionConflict

_HALF = re.compile(r"\..+\.[0-9a-f]{8}")


def begin(path: str) -> tuple[pa.NativeFile, str]:
    """A stream to a hidden file beside `path`, whose folder is made, and that file's path."""
    parent, _, base = path.rpartition("/")
    target = f"{parent}/.{base}.{uuid.uuid4().hex[:8]}"
    try:
        return pa.OSFile(target, "wb"), target
    except FileNotFoundError:
        os.makedirs(parent, exist_ok=True)
        return pa.OSFile(target, "wb"), target


def version(path: str) -> str | None:
    """The version of a file, which every write changes; None without a file."""
    try:
        return version_of(os.stat(path))
    except FileNotFoundError:
        return None


def version_of(status: os.stat_result) -> str:
    """The version of the file with this status."""
    return f"{status.st_mtime_ns}-{status.st_ino}-{status.st_size}"


def get(path: str) -> tuple[bytes, str]:
    """A file and its version. Raises FileNotFoundError."""
    with open(path, "rb") as file:
        return file.read(), version_of(os.fstat(file.fileno()))


def replace(path: str, data: pa.Buffer | bytes, replaced: str | None, lock: str) -> str:
    """Write a whole file in place of its version `replaced` (None: of no file), flushed to disk;
    returns the new version. Writers with the same `lock` file exclude each other. Raises
    VersionConflict where the file has another version."""
    stream, target = begin(path)
    try:
        with stream:
            stream.write(data)
        with open(target, "rb") as written:
            os.fsync(written.fileno())
            new_version = version_of(os.fstat(written.fileno()))
        with _while(path, replaced, lock):
            os.replace(target, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(target)
        raise
    _keep_names(os.path.dirname(path))
    return new_version


def delete(path: str, deleted: str, lock: str) -> None:
    """Delete a version of a file under the same lock as `replace`; nothing happens when there is
    no file. Raises VersionConflict where the file has another version."""
    if version(path) is not None:
        with _while(path, deleted, lock):
            os.unlink(path)


@contextmanager
def _while(path: str, expected: str | None, lock: str) -> Iterator[None]:
    with open(lock, "a", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if version(path) != expected:
            raise VersionConflict(f"{path} was changed by another writer")
        yield


def _keep_names(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(path: str) -> None:
    """Delete half-written files that killed processes left below a folder."""
    for parent, _, names in os.walk(path):
        for name in filter(_HALF.fullmatch, names):
            with suppress(FileNotFoundError):
                os.unlink(f"{parent}/{name}")
