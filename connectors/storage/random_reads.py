"""Reading a file here and there, with failures of the store told from damage of the file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from connectors.errors import DependencyFailed
from connectors.storage.folder import Folder, failing


class RandomReads(io.RawIOBase):
    """A file of a folder for a library that parses it. What the library makes of an error of the
    store cannot be known, so the error is kept: ask `raise_failure` before blaming the file."""

    def __init__(self, file: pa.NativeFile, name: str) -> None:
        self._file = file
        self._name = name
        self._failure: DependencyFailed | None = None

    def raise_failure(self) -> None:
        """Raises DependencyFailed where the store failed."""
        if self._failure is not None:
            raise self._failure

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The position, in bytes."""
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position; bytes from the start, from here (1) or from the end (2)."""
        return int(self._asked(lambda: self._file.seek(offset, whence)))

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; all that are left without it."""
        return bytes(self._asked(lambda: self._file.read(None if size < 0 else size)))

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            with failing(f"read {self._name}"):
                return ask()
        except DependencyFailed as failure:
            self._failure = failure
            raise


@contextmanager
def random_reads(folder: Folder, name: str) -> Iterator[RandomReads]:
    """Open a file of a folder. Raises DependencyFailed where the store does not deliver it."""
    whole = f"{folder.uri}/{name}"
    with failing(f"open {whole}"):
        file = folder.system.open_input_file(folder.at(name))
    with file:
        yield RandomReads(file, whole)
