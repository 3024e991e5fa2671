"""A proxy before an HTTP server that injects faults by rules.

    with FaultProxy("http://127.0.0.1:9200") as proxy:
        rule = proxy.rule("POST", r"/_bulk", Answer(503), first=2, times=3)
        ...                             # clients use proxy.url
        assert rule.seen == 5 and rule.struck == 3

Requests and answers pass unchanged, Host and framing included (signed requests stay valid), and are
streamed; a rule that no request meets changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from runners.stack.faults.http_connection import Broken, Connection, Upstream, reset
from runners.stack.faults.http_wire import LIMIT, BadMessage, Head
from runners.stack.faults.rules import Fault, Rule
from runners.stack.processes import LOOPBACK


class FaultProxy:
    """A proxy on 127.0.0.1:`port` (0: any) before the server at `upstream`, in a thread of its own.

    With `tls` it is an HTTPS server; `upstream_tls` is the context for an HTTPS upstream. While it
    is closed its port refuses connections; started again it has the same port and rules. When the
    upstream is away, connections break, as they do without the proxy.
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
        trust = (upstream_tls or ssl.create_default_context()) if secure else None
        self.upstream = Upstream(parts.hostname or "", parts.port or (443 if secure else 80), trust)
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
        rule = Rule(method, path, faults, first, times)
        with self._lock:
            self.rules = [*self.rules, rule]
        return rule

    def replace(self, rules: Sequence[Rule]) -> None:
        """Have these rules and no others."""
        with self._lock:
            self.rules = list(rules)

    def clear(self) -> None:
        """Forget all rules."""
        self.replace([])

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
        connection = Connection(self.upstream, reader, writer)
        try:
            await connection.carry(self.faults_of)
        except (Broken, BadMessage, asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
            reset(writer)
        finally:
            connection.close()
            self._tasks.discard(task)

    def faults_of(self, head: Head) -> list[Fault]:
        """What happens to this request, which is counted."""
        with self._lock:
            return [fault for rule in self.rules if rule.meets(head) for fault in rule.faults]
