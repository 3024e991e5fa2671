"""HTTP/1.1 as it lies on the wire: heads, and bodies piece by piece with their framing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

PIECE = 64 << 10
LIMIT = 256 << 10
WITHOUT_BODY = {204, 304}

Length = int | Literal["chunked", "until closed"]
"""How long a body is: in bytes, or what tells its end."""


class BadMessage(Exception):
    """What came is no HTTP/1.1: its words."""


@dataclass(frozen=True)
class Head:
    """Start line and header lines, as they came."""

    start: str
    lines: tuple[str, ...]

    @property
    def raw(self) -> bytes:
        """The bytes of it, the empty line included."""
        return "\r\n".join([self.start, *self.lines, "", ""]).encode("latin-1")

    def field(self, name: str) -> str:
        """The value of a header, empty where there is none."""
        for line in self.lines:
            key, _, value = line.partition(":")
            if key.strip().lower() == name:
                return value.strip()
        return ""

    def without(self, *names: str) -> Head:
        """The head less these headers."""
        kept = [line for line in self.lines if line.partition(":")[0].strip().lower() not in names]
        return Head(self.start, tuple(kept))

    def adding(self, *lines: str) -> Head:
        """The head with more header lines."""
        return Head(self.start, (*self.lines, *lines))

    @property
    def method(self) -> str:
        """Of a request."""
        return self.start.split(" ")[0]

    @property
    def target(self) -> str:
        """Path and query of a request."""
        return self.start.split(" ")[1]

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.start.split(" ")[1])

    @property
    def lasting(self) -> bool:
        """Whether the connection may carry another message after this one."""
        wish = self.field("connection").lower()
        return "close" not in wish and ("HTTP/1.1" in self.start or "keep-alive" in wish)

    @property
    def expects(self) -> bool:
        """Whether the sender waits for 100 Continue before it sends the body."""
        return self.field("expect").lower() == "100-continue"

    def request_length(self) -> Length:
        """How long the body of this request is."""
        if "chunked" in self.field("transfer-encoding").lower():
            return "chunked"
        return int(self.field("content-length") or 0)

    def answer_length(self, method: str) -> Length:
        """How long the body of this answer to a request of `method` is."""
        if method == "HEAD" or self.status < 200 or self.status in WITHOUT_BODY:
            return 0
        if "chunked" in self.field("transfer-encoding").lower():
            return "chunked"
        length = self.field("content-length")
        return int(length) if length else "until closed"


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next head, None where the connection ended instead. Raises BadMessage."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise BadMessage(f"a head that ends after {len(error.partial)} bytes") from None
        return None
    except asyncio.LimitOverrunError:
        raise BadMessage(f"a head of more than {LIMIT} bytes") from None
    start, *lines = raw.decode("latin-1").lstrip("\r\n").split("\r\n")
    if len(start.split(" ")) < 2:
        raise BadMessage(f"a start line {start[:80]!r}")
    return Head(start, tuple(line for line in lines if line))


async def body(
    reader: asyncio.StreamReader, length: Length, piece: int = PIECE
) -> AsyncIterator[tuple[bytes, bytes]]:
    """Pieces of a body: the bytes on the wire, and those of them that are content. Raises
    asyncio.IncompleteReadError where it ends too early."""
    if length == "until closed":
        while data := await reader.read(piece):
            yield data, data
    elif length == "chunked":
        async for pair in _chunks(reader, piece):
            yield pair
    else:
        async for data in _exactly(reader, length, piece):
            yield data, data


async def _chunks(reader: asyncio.StreamReader, piece: int) -> AsyncIterator[tuple[bytes, bytes]]:
    while True:
        line = await reader.readuntil(b"\r\n")
        yield line, b""
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        async for data in _exactly(reader, size, piece):
            yield data, data
        yield await reader.readexactly(2), b""
    while True:
        line = await reader.readuntil(b"\r\n")
        yield line, b""
        if line == b"\r\n":
            return


async def _exactly(reader: asyncio.StreamReader, size: int, piece: int) -> AsyncIterator[bytes]:
    while size:
        data = await reader.read(min(size, piece))
        if not data:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(data)
        yield data
