"""A way to a gRPC server on which anything can go wrong, by rule: the fault proxy for gRPC.

    with GrpcFaultProxy("127.0.0.1:9051") as proxy:
        rule = proxy.rule("AppendRows", Fail(grpc.StatusCode.UNAVAILABLE), first=2, times=1)
        ...                             # clients use proxy.address
        assert rule.struck == 1

Messages pass as they are; nothing is known of what is in them but that each has one answer.
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
    """End the call with a status before the server hears of the message; `details` is a
    google.rpc.Status as bytes."""

    code: grpc.StatusCode
    words: str = ""
    details: bytes = b""


@dataclass(frozen=True)
class LoseAnswer:
    """Let the server do its work, take its answer, and break the call instead."""


@dataclass(frozen=True)
class Close:
    """End the call in order before the server hears of the message."""


@dataclass(frozen=True)
class Answer:
    """Answer a message without asking the server: `make` gets the message and gives its answer,
    another fault for it, or None to let it pass."""

    make: Callable[[bytes], bytes | Fault | None]


@dataclass(frozen=True)
class Delay:
    """Wait before the server hears of the message."""

    seconds: float


Fault = Fail | LoseAnswer | Close | Answer | Delay


@dataclass
class Rule:
    """What happens to messages of methods that hold `method` (a regular expression): `fault`, from
    the `first` message on, so many `times` (None for ever). `seen` messages matched, `struck` of
    them met the fault."""

    method: str
    fault: Fault
    first: int = 1
    times: int | None = None
    seen: int = 0
    struck: int = 0

    def meets(self, method: str) -> bool:
        """Count a message; whether the fault is its."""
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
        """Add a rule behind those there are (see Rule); a message meets the first that is due."""
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
        """Refuse and break all calls."""
        if self._server and self._channel:
            self._server.stop(None).wait()
            self._channel.close()
            self._server = self._channel = None

    def __enter__(self) -> GrpcFaultProxy:
        return self.start()

    def __exit__(self, *failure: object) -> None:
        self.close()

    def service(self, handler_call_details: Any) -> Any:
        """A call of one message looks on the wire as one of many."""
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
    """One call: what becomes of its messages, in their order."""

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
        """What the client sends until it is done or gone."""
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
    """The call ends with a fault."""

    def __init__(self, fault: Fail) -> None:
        super().__init__(fault.words)
        self.fault = fault
