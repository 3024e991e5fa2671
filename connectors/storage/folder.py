"""Local folders and S3 buckets behind one class, with writes of whole files.

Arrow reads and lists; writes to a bucket go through `connectors.storage.s3`.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, Protocol, TypeVar

import pyarrow as pa
from pyarrow import fs

from connectors.errors import DependencyFailed
from connectors.storage import local, s3
from connectors.storage.s3 import ANY_VERSION, ATTEMPTS, VersionConflict
from connectors.storage.settings import S3Settings

PARALLEL = 16
IN_MEMORY_BYTES = 1 << 20
ABANDONED = timedelta(days=1)
_LOG = logging.getLogger(__name__)
LOCK = ".lock"
REWRITES = 20
Done = TypeVar("Done")


def unless_changed(uri: str, attempt: Callable[[], Done]) -> Done:
    """Call `attempt`, which reads a file and replaces it, again after each VersionConflict. `uri`
    names the file for messages. Raises DependencyFailed, also after REWRITES conflicts."""
    for _ in range(REWRITES):
        with suppress(VersionConflict):
            return attempt()
    raise DependencyFailed(f"{uri}: others wrote it {REWRITES} times meanwhile")


@functools.cache
def _s3(settings: S3Settings) -> fs.S3FileSystem:
    options: dict[str, object] = {
        "connect_timeout": settings.connect_timeout_s,
        "request_timeout": settings.request_timeout_s,
        "allow_bucket_creation": False,
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    }
    if endpoint := s3.endpoint_of(settings):
        scheme, _, host = endpoint.partition("://")
        options |= {"endpoint_override": host, "scheme": scheme}
    if settings.region:
        options["region"] = settings.region
    try:
        return fs.S3FileSystem(**options, allow_delayed_open=True)
    except TypeError:  # pyarrow 16 does not know it: small objects cost it more requests
        return fs.S3FileSystem(**options)


@dataclass(frozen=True)
class Folder:
    """A folder on the local file system or in a bucket. `uri` is as the user wrote it, `path` as
    the file system names it. All methods raise DependencyFailed when the file system fails."""

    uri: str
    path: str
    settings: S3Settings

    @property
    def local(self) -> bool:
        """True on the local file system."""
        return not self.uri.startswith("s3://")

    @property
    def system(self) -> fs.FileSystem:
        """The file system of Arrow; that of S3 is opened once a process."""
        return fs.LocalFileSystem() if self.local else _s3(self.settings)

    def at(self, name: str) -> str:
        """Full path of `name` below the folder."""
        return f"{self.path}/{name}" if name else self.path

    def child(self, name: str) -> Folder:
        """A folder below this one."""
        return Folder(f"{self.uri.rstrip('/')}/{name}", self.at(name), self.settings)

    def names(self) -> list[tuple[str, int]]:
        """Names below the folder and sizes in bytes of all files in it, sorted; none if absent."""
        with failing(f"list {self.uri}"):
            selector = fs.FileSelector(self.path, recursive=True, allow_not_found=True)
            infos = self.system.get_file_info(selector)
        skip = len(self.path) + 1
        return sorted((i.path[skip:], i.size) for i in infos if i.type == fs.FileType.File)

    def modified(self, name: str) -> int:
        """When a file was last written, epoch nanoseconds; 0 where the file system does not say."""
        with failing(f"look at {self.uri}/{name}"):
            return self.system.get_file_info(self.at(name)).mtime_ns or 0

    def exists(self) -> bool:
        """Whether the folder (or file) exists."""
        with failing(f"look at {self.uri}"):
            return bool(self.system.get_file_info(self.path).type != fs.FileType.NotFound)

    def reach(self) -> None:
        """Ask whether the bucket exists; nothing is asked of a local folder, which the first write
        makes. Raises DependencyFailed."""
        with failing(f"reach {self.uri}"):
            if not self.local:
                s3.reach(self.settings, self.path)

    def read(self, name: str) -> pa.Buffer | None:
        """A whole file, memory-mapped where local; None when there is none."""
        with failing(f"read {self.uri}/{name}"):
            try:
                if self.local:
                    with pa.memory_map(self.at(name)) as mapped:
                        return mapped.read_buffer()
                with self.system.open_input_stream(self.at(name), compression=None) as stream:
                    return pa.py_buffer(stream.read())
            except FileNotFoundError:
                return None

    def read_part(self, name: str, start: int, size: int) -> bytes:
        """`size` bytes of a file from byte `start`. Raises DependencyFailed, also without the
        file."""
        path = self.at(name)
        with failing(f"read {self.uri}/{name}"), self.system.open_input_file(path) as file:
            return bytes(file.read_at(size, start))

    def read_version(self, name: str) -> tuple[bytes, str] | None:
        """A whole file and its version, for `replace`; None when there is none."""
        with failing(f"read {self.uri}/{name}"), suppress(FileNotFoundError):
            if self.local:
                return local.get(self.at(name))
            return s3.get(self.settings, self.at(name))
        return None

    def version(self, name: str) -> str | None:
        """The version of a file; None when there is none."""
        with failing(f"look at {self.uri}/{name}"):
            if self.local:
                return local.version(self.at(name))
            return s3.version(self.settings, self.at(name))

    def replace(self, name: str, data: pa.Buffer | bytes, replaced: str | None) -> str:
        """Write a whole file durably in place of its version `replaced` (None: of no file);
        returns the new version. Raises VersionConflict where the file has another version."""
        with failing(f"write {self.uri}/{name}"):
            if self.local:
                os.makedirs(self.path, exist_ok=True)
                return local.replace(self.at(name), data, replaced, self.at(LOCK))
            return s3.put(self.settings, self.at(name), io.BytesIO(data), replaced)

    def write(self, name: str, data: pa.Buffer | bytes) -> None:
        """Write a whole file; readers see all of it or nothing."""
        with self.whole(name) as stream:
            stream.write(data)

    @contextmanager
    def whole(self, name: str) -> Iterator[pa.NativeFile]:
        """An output stream; its file appears, complete, when the block ends without an error."""
        stream, commit = self.begin(name)
        try:
            with failing(f"write {self.uri}/{name}"):
                yield stream
        except BaseException:
            commit.abandon()
            raise
        commit()

    def begin(self, name: str) -> tuple[pa.NativeFile, Commit]:
        """An output stream, and its commit, to be called when all is written."""
        with failing(f"write {self.uri}/{name}"):
            if not self.local:
                content = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115
                stream = pa.PythonFile(content, "w")
                return stream, Upload(stream, self, name, content)
            stream, target = local.begin(self.at(name))
            return stream, Rename(stream, target, self.at(name))

    def delete_version(self, name: str, deleted: str) -> None:
        """Delete a version of a file; nothing happens when there is no file. Raises VersionConflict
        where the file has another version."""
        with failing(f"delete {self.uri}/{name}"), suppress(FileNotFoundError):
            if self.local:
                local.delete(self.at(name), deleted, self.at(LOCK))
            else:
                s3.delete(self.settings, self.at(name), deleted)

    def delete(self, name: str) -> None:
        """Delete a file; nothing happens when it does not exist."""
        with failing(f"delete {self.uri}/{name}"), suppress(FileNotFoundError):
            if self.local:
                os.unlink(self.at(name))
            else:
                s3.delete(self.settings, self.at(name))

    def clear(self) -> None:
        """Delete all files in the folder; nothing happens when it does not exist."""
        if not self.local:
            with ThreadPoolExecutor(PARALLEL) as pool:
                list(pool.map(self.delete, [name for name, _ in self.names()]))
            return
        with failing(f"delete {self.uri}"), suppress(FileNotFoundError):
            shutil.rmtree(self.path)

    def sweep(self, older_than: timedelta = ABANDONED) -> None:
        """Delete half-written files that killed processes left below the folder; in a bucket,
        unfinished uploads that began `older_than` ago, where the bucket allows it."""
        if self.local:
            with failing(f"tidy up {self.uri}"):
                local.sweep(self.path)
            return
        try:
            s3.abort_uploads(self.settings, self.path, older_than)
        except OSError as error:
            _LOG.warning("unfinished uploads are left in %s: %s", self.uri, error)


class Commit(Protocol):
    """Ends a stream: its file appears when the commit is called, and never after `abandon`."""

    def __call__(self) -> None:
        """Close the stream; its file appears, complete, under its name."""

    def abandon(self) -> None:
        """Close the stream and leave nothing behind."""


@dataclass(frozen=True)
class Rename:
    """A local file, written under a hidden name beside its final path."""

    stream: pa.NativeFile
    target: str
    final: str

    def __call__(self) -> None:
        with failing(f"write {self.final}"):
            try:
                self.stream.close()
                os.replace(self.target, self.final)
            except OSError:
                self.abandon()
                raise

    def abandon(self) -> None:
        with suppress(OSError):
            self.stream.close()
        with suppress(OSError):
            os.unlink(self.target)


@dataclass(frozen=True)
class Upload:
    """An object of a bucket, written to a nameless local file until it is complete."""

    stream: pa.NativeFile
    bucket: Folder
    name: str
    content: IO[bytes]

    def __call__(self) -> None:
        bucket = self.bucket
        with self.content, failing(f"write {bucket.uri}/{self.name}"):
            self.stream.flush()
            s3.put(bucket.settings, bucket.at(self.name), self.content, ANY_VERSION)

    def abandon(self) -> None:
        self.content.close()


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Turn errors of the file system into DependencyFailed: could not `what`."""
    try:
        yield
    except OSError as error:
        _s3.cache_clear()  # fresh credentials may be accepted
        raise DependencyFailed(f"could not {what}: {error}") from error


def folder(uri: str, settings: S3Settings) -> Folder:
    """The folder of a path, `file://` or `s3://bucket/prefix` URI."""
    if uri.startswith("s3://"):
        return Folder(uri.rstrip("/"), uri[5:].rstrip("/"), settings)
    path = os.path.abspath(uri.removeprefix("file://"))
    return Folder(path, path, settings)
