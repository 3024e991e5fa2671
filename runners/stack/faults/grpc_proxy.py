"""A proxy before a gRPC server that injects faults by rules.

    with GrpcFaultProxy("127.0.0.1:9051") as proxy:
        rule = proxy.rule("AppendRows", Fail(grpc.StatusCode.UNAVAILABLE), first=2, times=1)
        ...                             # clients use proxy.address
        assert rule.struck == 1

Messages are not parsed; the proxy expects one answer to each.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc

from runners.stack.processes import LOOPBACK

_UNBOUNDED = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.so_reuseport", 0),
]
_CALLS = 64
_DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True)
class Fail:
    """End the call with a status before the message reaches the server; `details` is a
    google.rpc.Status as bytes."""

    code: grpc.StatusCode
    words: str = ""
    details: bytes = b""


@dataclass(frozen=True)
class LoseAnswer:
    """Let the server handle the message, then break the call instead of giving its answer."""


@dataclass(frozen=True)
class Close:
    """End the call without an error before the message reaches the server."""


@dataclass(frozen=True)
class Answer:
    """Answer a message without the server: `make` takes the message and returns the answer, another
    fault for it, or None to let it pass."""

    make: Callable[[bytes], bytes | Fault | None]


@dataclass(frozen=True)
class Delay:
    """Wait before the message is sent to the server."""

    seconds: float


Fault = Fail | LoseAnswer | Close | Answer | Delay


@dataclass
class Rule:
    """Which messages meet a fault: those of methods that match `method` (a regular expression),
    from the `first` of them on, `times` times (None: always). `seen` counts the messages that
    matched, `struck` those that met the fault."""

    method: str
    fault: Fault
    first: int = 1
    times: int | None = None
    seen: int = 0
    struck: int = 0

    def meets(self, method: str) -> bool:
        """Count a message; True where it meets the fault."""
        if not re.search(self.method, method):
            return False
        self.seen += 1
        last = self.times is not None and self.struck >= self.times
        if self.seen < self.first or last:
            return False
        self.struck += 1
        return True


class GrpcFaultProxy(grpc.GenericRpcHandler):
    """A proxy on 127.0.0.1:`port` (0: any) before the server at `upstream` (host:port).

    While it is closed its port refuses connections; started again it has the same port and rules.
    """

    def __init__(self, upstream: str, port: int = 0) -> None:
        self.upstream, self.port = upstream, port
        self.rules: list[Rule] = []
        self._lock = threading.Lock()
        self._server: grpc.Server | None = None
        self._channel: grpc.Channel | None = None

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"{LOOPBACK}:{self.port}"

    def rule(self, method: str, fault: Fault, first: int = 1, times: int | None = None) -> Rule:
        """Add a rule (see Rule) behind the others; a message meets the first rule that matches."""
        rule = Rule(method, fault, first, times)
        with self._lock:
            self.rules = [*self.rules, rule]
        return rule

    def clear(self) -> None:
        """Forget all rules."""
        with self._lock:
            self.rules = []

    def start(self) -> GrpcFaultProxy:
        """Listen."""
        self._channel = grpc.insecure_channel(self.upstream, options=_UNBOUNDED)
        self._server = grpc.server(ThreadPoolExecutor(_CALLS), [self], options=_UNBOUNDED)
        self.port = self._server.add_insecure_port(self.address)
        self._server.start()
        return self

    def close(self) -> None:
        """Break all calls, and refuse new ones."""
        if self._server and self._channel:
            self._server.stop(None).wait()
            self._channel.close()
            self._server = self._channel = None

    def __enter__(self) -> GrpcFaultProxy:
        return self.start()

    def __exit__(self, *failure: object) -> None:
        self.close()

    def service(self, handler_call_details: Any) -> Any:
        """The handler of every call: on the wire a call of one message is like one of many."""
        method, metadata = handler_call_details.method, handler_call_details.invocation_metadata

        def carry(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
            assert self._channel is not None
            call = _Call(lambda: self._fault(method), messages)
            return call.carry(self._channel.stream_stream(method), metadata, context)

        return grpc.stream_stream_rpc_method_handler(carry)

    def _fault(self, method: str) -> Fault | None:
        with self._lock:
            return next((rule.fault for rule in self.rules if rule.meets(method)), None)


_PASS, _END = "pass", "end"
_Step = Fault | bytes | str


class _Call:
    """A call: what happens to its messages, in their order."""

    def __init__(self, fault: Callable[[], Fault | None], messages: Iterator[bytes]) -> None:
        self.fault, self.messages = fault, messages
        self.steps: queue.SimpleQueue[_Step] = queue.SimpleQueue()

    def carry(self, start: Any, metadata: Any, context: Any) -> Iterator[bytes]:
        sent = [pair for pair in metadata if not pair[0].startswith(("user-agent", "grpc-"))]
        upstream = start(self._forwarded(), metadata=sent)
        upstream.add_callback(lambda: self.steps.put(_END))
        context.add_callback(upstream.cancel)
        try:
            yield from self._answers(upstream)
        except _Ended as end:
            upstream.cancel()
            fault = end.fault
            if fault.details:
                context.set_trailing_metadata(((_DETAILS, fault.details),))
            context.abort(fault.code, fault.words)
        except grpc.RpcError as error:
            context.set_trailing_metadata(error.trailing_metadata() or ())
            context.abort(error.code(), error.details() or "")

    def _forwarded(self) -> Iterator[bytes]:
        for message in self._heard():
            step: _Step | None = self.fault()
            if isinstance(step, Answer):
                step = step.make(message)
            if isinstance(step, Delay):
                time.sleep(step.seconds)
                step = None
            self.steps.put(step or _PASS)
            if isinstance(step, Fail | Close):
                return
            if not isinstance(step, bytes):
                yield message

    def _heard(self) -> Iterator[bytes]:
        """The messages of the client, until it ends the call or goes away."""
        with suppress(grpc.RpcError):
            yield from self.messages

    def _answers(self, upstream: Any) -> Iterator[bytes]:
        while True:
            step = self.steps.get()
            if isinstance(step, bytes):
                yield step
            elif isinstance(step, Fail):
                raise _Ended(step)
            elif isinstance(step, Close):
                upstream.cancel()
                return
            elif isinstance(step, LoseAnswer):
                next(upstream)
                raise _Ended(Fail(grpc.StatusCode.UNAVAILABLE, "the connection was lost"))
            else:
                try:
                    yield next(upstream)
                except StopIteration:
                    return


class _Ended(Exception):
    """Ends the call with a fault."""

    def __init__(self, fault: Fail) -> None:
        super().__init__(fault.words)
        self.fault = fault
