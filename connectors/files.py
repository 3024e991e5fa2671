"""Local folders and S3 buckets behind one door, with whole-object writes."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import fs


class DependencyFailed(Exception):
    """A bucket or file system did not do what was asked: names it, the path and the error."""


@dataclass(frozen=True)
class S3Settings:
    """How to reach S3. Credentials come from the standard AWS sources (environment, profile,
    role); `endpoint` is for S3-compatible stores."""

    endpoint: str | None = None
    region: str | None = None
    connect_timeout_s: float = 10
    request_timeout_s: float = 60


@functools.cache
def _s3(settings: S3Settings) -> fs.S3FileSystem:
    options: dict[str, object] = {
        "connect_timeout": settings.connect_timeout_s,
        "request_timeout": settings.request_timeout_s,
        "allow_bucket_creation": False,
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=5),
    }
    endpoint = settings.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3")
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        options |= {"endpoint_override": host, "scheme": scheme or "https"}
    if settings.region:
        options["region"] = settings.region
    return fs.S3FileSystem(**options)


@dataclass(frozen=True)
class Folder:
    """A folder on a file system; `uri` is what the user wrote."""

    uri: str
    path: str
    settings: S3Settings

    @property
    def local(self) -> bool:
        """True on the local file system."""
        return not self.uri.startswith("s3://")

    @property
    def system(self) -> fs.FileSystem:
        """The file system, opened once a process."""
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

    def exists(self) -> bool:
        """Whether the folder (or file) is there."""
        with failing(f"look at {self.uri}"):
            return bool(self.system.get_file_info(self.path).type != fs.FileType.NotFound)

    def read(self, name: str) -> pa.Buffer | None:
        """A whole file, memory-mapped where local; None when there is none."""
        with failing(f"read {self.uri}/{name}"):
            if self.system.get_file_info(self.at(name)).type != fs.FileType.File:
                return None
            if self.local:
                with pa.memory_map(self.at(name)) as mapped:
                    return mapped.read_buffer()
            with self.system.open_input_stream(self.at(name)) as stream:
                return pa.py_buffer(stream.read())

    def write(self, name: str, data: pa.Buffer | bytes) -> None:
        """Write a whole file; a reader sees all of it or nothing."""
        with self.whole(name) as stream:
            stream.write(data)

    @contextmanager
    def whole(self, name: str) -> Iterator[pa.NativeFile]:
        """An output stream whose file appears, complete, on leaving without an error."""
        stream, commit = self.begin(name)
        try:
            yield stream
        except BaseException:
            if self.local:
                stream.close()
            raise
        commit()

    def begin(self, name: str) -> tuple[pa.NativeFile, Commit]:
        """An output stream, and what to call when all is written."""
        final = self.at(name)
        parent, _, base = final.rpartition("/")
        target = f"{parent}/.{base}.{uuid.uuid4().hex[:8]}" if self.local else final
        with failing(f"write {self.uri}/{name}"):
            if self.local:
                os.makedirs(parent, exist_ok=True)
            stream = self.system.open_output_stream(target, compression=None)
        return stream, Commit(stream, target, final, self.local)

    def delete(self, name: str) -> None:
        """Delete a file; nothing happens when there is none."""
        with failing(f"delete {self.uri}/{name}"):
            if self.system.get_file_info(self.at(name)).type == fs.FileType.File:
                self.system.delete_file(self.at(name))


@dataclass(frozen=True)
class Commit:
    """Closes a stream and gives its file the final name."""

    stream: pa.NativeFile
    target: str
    final: str
    local: bool

    def __call__(self) -> None:
        with failing(f"write {self.final}"):
            self.stream.close()
            if self.local:
                os.replace(self.target, self.final)

    def abandon(self) -> None:
        """Leave nothing behind under the final name."""
        if self.local:
            self.stream.close()
            os.unlink(self.target)


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Turn file system errors into DependencyFailed that says what was being done."""
    try:
        yield
    except OSError as error:
        raise DependencyFailed(f"could not {what}: {error}") from error


def folder(uri: str, settings: S3Settings) -> Folder:
    """The folder a user names as a path, `file://` or `s3://bucket/prefix`."""
    if uri.startswith("s3://"):
        return Folder(uri.rstrip("/"), uri[5:].rstrip("/"), settings)
    path = os.path.abspath(uri.removeprefix("file://"))
    return Folder(path, path, settings)
