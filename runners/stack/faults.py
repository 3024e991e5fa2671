"""A way to an HTTP server on which anything can go wrong, by rule: the fault proxy.

    with FaultProxy("http://127.0.0.1:9200") as proxy:
        rule = proxy.rule("POST", r"/_bulk", Answer(503), first=2, times=3)
        ...                             # clients use proxy.url
        assert rule.seen == 5 and rule.struck == 3

Requests and answers pass unchanged, Host and framing included (signed requests stay valid), and are
streamed; a rule that no request meets changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

from runners.stack.fault_rules import (
    Answer,
    Delay,
    Fault,
    LoseAnswer,
    Reset,
    ResetInAnswer,
    ResetInRequest,
    Rewrite,
    Rule,
    Slow,
)
from runners.stack.http_wire import LIMIT, PIECE, BadMessage, Head, Length, body, read_head
from runners.stack.processes import LOOPBACK

Kind = TypeVar("Kind")
__all__ = [
    "Answer",
    "Delay",
    "Fault",
    "FaultProxy",
    "LoseAnswer",
    "Reset",
    "ResetInAnswer",
    "ResetInRequest",
    "Rewrite",
    "Rule",
    "Slow",
]


class _Broken(Exception):
    """The connection is to be reset."""


class _Deaf(_Broken):
    """Nobody takes what is sent."""


class FaultProxy:
    """A proxy on 127.0.0.1:`port` (0: any) before the server at `upstream`, in a thread of its own.

    `tls` makes it an HTTPS server, `upstream_tls` says whom to trust where the upstream is one.
    While it is closed its port refuses connections; started again it has the same port and rules.
    A server that is away looks as it does without the proxy: connections break.
    """

    def __init__(
        self,
        upstream: str,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        upstream_tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(upstream)
        secure = parts.scheme == "https"
        self.host, self.upstream_port = parts.hostname or "", parts.port or (443 if secure else 80)
        self.upstream_tls = (upstream_tls or ssl.create_default_context()) if secure else None
        self.path, self.port, self.tls = parts.path, port, tls
        self.rules: list[Rule] = []
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where clients find it, the upstream's path included."""
        return f"{'https' if self.tls else 'http'}://{LOOPBACK}:{self.port}{self.path}"

    def rule(
        self, method: str, path: str, *faults: Fault, first: int = 1, times: int | None = None
    ) -> Rule:
        """Add a rule behind those there are (see Rule). A request meets the faults of all rules
        that are due."""
        made = Rule(method, path, faults, first, times)
        with self._lock:
            self.rules = [*self.rules, made]
        return made

    def clear(self) -> None:
        """Forget all rules."""
        with self._lock:
            self.rules = []

    def start(self) -> FaultProxy:
        """Listen. Raises OSError where the port is taken."""
        listener = socket.create_server((LOOPBACK, self.port))
        self.port = listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=[listener], daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Refuse and break all connections."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop = self._thread = None

    def __enter__(self) -> FaultProxy:
        return self.start()

    def __exit__(self, *failure: object) -> None:
        self.close()

    def _run(self, listener: socket.socket) -> None:
        loop = self._loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        serving = asyncio.start_server(self._serve, sock=listener, limit=LIMIT, ssl=self.tls)
        server = loop.run_until_complete(serving)
        loop.run_forever()
        server.close()
        for task in self._tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = _Connection(self, reader, writer)
        try:
            await connection.carry()
        except (_Broken, BadMessage, asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
            _reset(writer)
        finally:
            connection.close()
            self._tasks.discard(task)

    def faults_of(self, head: Head) -> list[Fault]:
        """What happens to this request, which is counted."""
        with self._lock:
            return [fault for rule in self.rules if rule.meets(head) for fault in rule.faults]


class _Connection:
    """A client's connection, and one to the server that lives as long."""

    def __init__(
        self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.proxy, self.reader, self.writer = proxy, reader, writer
        self.server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def carry(self) -> None:
        while (head := await read_head(self.reader)) is not None:
            if not await self._exchange(head, self.proxy.faults_of(head)):
                return

    def close(self) -> None:
        self.writer.close()
        if self.server:
            _reset(self.server[1])

    async def _exchange(self, head: Head, faults: list[Fault]) -> bool:
        """Whether the connection goes on."""
        if delay := _one(faults, Delay):
            await asyncio.sleep(delay.seconds)
        if _one(faults, Reset):
            raise _Broken
        if answer := _one(faults, Answer):
            return await self._answer_alone(head, answer)
        reader, writer = await self._connect()
        plain = head.without("accept-encoding") if _one(faults, Rewrite) else head
        writer.write(plain.raw)
        if head.expects:
            first = await read_head(reader)
            if first is None:
                raise _Broken
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
            proxy = self.proxy
            self.server = await asyncio.open_connection(
                proxy.host, proxy.upstream_port, limit=LIMIT, ssl=proxy.upstream_tls
            )
        return self.server

    async def _answer_alone(self, head: Head, answer: Answer) -> bool:
        if not head.expects:
            async for _ in body(self.reader, head.request_length()):
                pass
        phrase = HTTPStatus(answer.status).phrase
        lines = [f"{name}: {value}" for name, value in answer.headers.items()]
        told = Head(f"HTTP/1.1 {answer.status} {phrase}", tuple(lines))
        told = told.adding(f"Content-Length: {len(answer.body)}")
        lasting = head.lasting and not head.expects
        self.writer.write((told if lasting else told.adding("Connection: close")).raw)
        self.writer.write(b"" if head.method == "HEAD" else answer.body)
        await self.writer.drain()
        return lasting

    async def _send(self, head: Head, faults: list[Fault], writer: asyncio.StreamWriter) -> None:
        """The request's body to the server; where that takes no more, its answer says why."""
        cut = _one(faults, ResetInRequest)
        pipe = _Pipe(writer, _one(faults, Slow), cut.after if cut else None)
        with contextlib.suppress(_Deaf):
            await pipe.carry(self.reader, head.request_length())

    async def _answer(self, head: Head, faults: list[Fault], first: Head | None = None) -> bool:
        """The server's answer to the client; whether the connection goes on."""
        assert self.server is not None
        reader = self.server[0]
        told = first or await read_head(reader)
        while told is not None and told.status < HTTPStatus.OK:
            self.writer.write(told.raw)
            told = await read_head(reader)
        if told is None:
            raise _Broken
        length = told.answer_length(head.method)
        if _one(faults, LoseAnswer):
            async for _ in body(reader, length):
                pass
            raise _Broken
        if rewrite := _one(faults, Rewrite):
            content = rewrite.change(b"".join([part async for _, part in body(reader, length)]))
            told = told.without("content-length", "transfer-encoding")
            self.writer.write(told.adding(f"Content-Length: {len(content)}").raw + content)
            await self.writer.drain()
            return told.lasting
        self.writer.write(told.raw)
        cut = _one(faults, ResetInAnswer)
        pipe = _Pipe(self.writer, _one(faults, Slow), cut.after if cut else None)
        await pipe.carry(reader, length)
        return told.lasting and length != "until closed"


@dataclass
class _Pipe:
    """Carries bodies to `writer`, slowly and not to their end where that is asked for."""

    writer: asyncio.StreamWriter
    slow: Slow | None
    until: int | None

    async def carry(self, reader: asyncio.StreamReader, length: Length) -> None:
        passed = 0
        if self.until == 0:
            raise _Broken
        piece = max(1, min(PIECE, self.slow.bytes_per_s // 20)) if self.slow else PIECE
        async for wire, content in body(reader, length, piece):
            if self.slow:
                await asyncio.sleep(len(wire) / self.slow.bytes_per_s)
            passed += len(content)
            cut = self.until is not None and passed >= self.until
            await self._write(wire[: len(wire) - (passed - (self.until or 0))] if cut else wire)
            if cut:
                await asyncio.sleep(0.05)
                raise _Broken

    async def _write(self, data: bytes) -> None:
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError:
            raise _Deaf from None


def _one(faults: list[Fault], kind: type[Kind]) -> Kind | None:
    return next((fault for fault in faults if isinstance(fault, kind)), None)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once, with RST and not with FIN."""
    held = writer.get_extra_info("socket")
    if held is not None and held.fileno() >= 0:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
