"""A client's connection through the fault proxy: carries its requests and injects their faults."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from runners.stack.faults.http_wire import LIMIT, PIECE, Head, Length, body, read_head
from runners.stack.faults.rules import (
    Answer,
    Delay,
    Fault,
    LoseAnswer,
    Reset,
    ResetInAnswer,
    ResetInRequest,
    Rewrite,
    Slow,
)

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Upstream:
    """Address of the server; `tls` is the context of connections to it, None for plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None


class Broken(Exception):
    """The connection must be reset."""


class _Deaf(Broken):
    """The receiver takes no more bytes."""


class Connection:
    """A client's connection, and the connection to the server that belongs to it."""

    def __init__(
        self, upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.upstream, self.reader, self.writer = upstream, reader, writer
        self.server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def carry(self, faults_of: Callable[[Head], list[Fault]]) -> None:
        """Carry requests one after another, each with its faults, until the client is done. Raises
        Broken, OSError, asyncio.IncompleteReadError or BadMessage where it must be reset."""
        while (head := await read_head(self.reader)) is not None:
            if not await self._exchange(head, faults_of(head)):
                return

    def close(self) -> None:
        """Close both connections."""
        self.writer.close()
        if self.server:
            reset(self.server[1])

    async def _exchange(self, head: Head, faults: list[Fault]) -> bool:
        """Carry a request and its answer; True where the connection stays open."""
        if delay := _first_of(faults, Delay):
            await asyncio.sleep(delay.seconds)
        if _first_of(faults, Reset):
            raise Broken
        if answer := _first_of(faults, Answer):
            return await self._answer_alone(head, answer)
        reader, writer = await self._connect()
        plain = head.without("accept-encoding") if _first_of(faults, Rewrite) else head
        writer.write(plain.raw)
        if head.expects:
            first = await read_head(reader)
            if first is None:
                raise Broken
            if first.status != HTTPStatus.CONTINUE:
                await self._answer(head, faults, first)
                return False
            self.writer.write(first.raw)
        sending = asyncio.create_task(self._send(head, faults, writer))
        answering = asyncio.create_task(self._answer(head, faults))
        try:
            await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            lasting = await answering
            return sending.done() and lasting and head.lasting
        finally:
            sending.cancel()
            answering.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.server is None or self.server[0].at_eof():
            host, port, tls = self.upstream.host, self.upstream.port, self.upstream.tls
            self.server = await asyncio.open_connection(host, port, limit=LIMIT, ssl=tls)
        return self.server

    async def _answer_alone(self, head: Head, answer: Answer) -> bool:
        if not head.expects:
            async for _ in body(self.reader, head.request_length()):
                pass
        phrase = HTTPStatus(answer.status).phrase
        lines = [f"{name}: {value}" for name, value in answer.headers.items()]
        answer_head = Head(f"HTTP/1.1 {answer.status} {phrase}", tuple(lines))
        answer_head = answer_head.adding(f"Content-Length: {len(answer.body)}")
        lasting = head.lasting and not head.expects
        self.writer.write((answer_head if lasting else answer_head.adding("Connection: close")).raw)
        self.writer.write(b"" if head.method == "HEAD" else answer.body)
        await self.writer.drain()
        return lasting

    async def _send(self, head: Head, faults: list[Fault], writer: asyncio.StreamWriter) -> None:
        """Send the request's body to the server, until the server takes no more: then its answer
        says why."""
        cut = _first_of(faults, ResetInRequest)
        pipe = _Pipe(writer, _first_of(faults, Slow), cut.after if cut else None)
        with contextlib.suppress(_Deaf):
            await pipe.carry(self.reader, head.request_length())

    async def _answer(self, head: Head, faults: list[Fault], first: Head | None = None) -> bool:
        """Send the server's answer to the client; True where the connection stays open."""
        assert self.server is not None
        reader = self.server[0]
        answer_head = first or await read_head(reader)
        while answer_head is not None and answer_head.status < HTTPStatus.OK:
            self.writer.write(answer_head.raw)
            answer_head = await read_head(reader)
        if answer_head is None:
            raise Broken
        length = answer_head.answer_length(head.method)
        if _first_of(faults, LoseAnswer):
            async for _ in body(reader, length):
                pass
            raise Broken
        if rewrite := _first_of(faults, Rewrite):
            content = rewrite.change(b"".join([part async for _, part in body(reader, length)]))
            answer_head = answer_head.without("content-length", "transfer-encoding")
            self.writer.write(answer_head.adding(f"Content-Length: {len(content)}").raw + content)
            await self.writer.drain()
            return answer_head.lasting
        self.writer.write(answer_head.raw)
        cut = _first_of(faults, ResetInAnswer)
        pipe = _Pipe(self.writer, _first_of(faults, Slow), cut.after if cut else None)
        await pipe.carry(reader, length)
        return answer_head.lasting and length != "until closed"


@dataclass
class _Pipe:
    """Carries bodies to `writer`: slowly with `slow`, and with `until` only so many bytes."""

    writer: asyncio.StreamWriter
    slow: Slow | None
    until: int | None

    async def carry(self, reader: asyncio.StreamReader, length: Length) -> None:
        passed = 0
        if self.until == 0:
            raise Broken
        piece = max(1, min(PIECE, self.slow.bytes_per_s // 20)) if self.slow else PIECE
        async for wire, content in body(reader, length, piece):
            if self.slow:
                await asyncio.sleep(len(wire) / self.slow.bytes_per_s)
            passed += len(content)
            cut = self.until is not None and passed >= self.until
            await self._write(wire[: len(wire) - (passed - (self.until or 0))] if cut else wire)
            if cut:
                await asyncio.sleep(0.05)
                raise Broken

    async def _write(self, data: bytes) -> None:
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError:
            raise _Deaf from None


def _first_of(faults: list[Fault], kind: type[Kind]) -> Kind | None:
    return next((fault for fault in faults if isinstance(fault, kind)), None)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close at once, with RST and not with FIN."""
    held = writer.get_extra_info("socket")
    if held is not None and held.fileno() >= 0:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
