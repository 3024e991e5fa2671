"""Faults of HTTP requests, and rules for which requests meet them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from runners.stack.faults.http_wire import Head


@dataclass(frozen=True)
class Answer:
    """Read the request and answer it without the server."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reset:
    """Break the connection before the request reaches the server."""


@dataclass(frozen=True)
class ResetInRequest:
    """Break the connections to client and server after `after` bytes of the request's body."""

    after: int


@dataclass(frozen=True)
class ResetInAnswer:
    """Break the connection after `after` bytes of the answer's body."""

    after: int


@dataclass(frozen=True)
class LoseAnswer:
    """Let the server handle the request, then break the connection instead of giving its answer."""


@dataclass(frozen=True)
class Delay:
    """Wait before anything else is done; a long delay is like a server that never answers."""

    seconds: float


@dataclass(frozen=True)
class Slow:
    """Carry so many bytes of bodies a second, each way."""

    bytes_per_s: int


@dataclass(frozen=True)
class Rewrite:
    """Answer with another body: `change` takes the server's body, uncompressed, and returns it."""

    change: Callable[[bytes], bytes]


Fault = Answer | Reset | ResetInRequest | ResetInAnswer | LoseAnswer | Delay | Slow | Rewrite


@dataclass
class Rule:
    """Which requests meet `faults`: those of `method` ("" for any) whose path and query match
    `path` (a regular expression), from the `first` of them on, `times` times (None: always).
    Without faults it only counts. `seen` counts the requests that matched, `struck` those that met
    them."""

    method: str
    path: str
    faults: tuple[Fault, ...] = ()
    first: int = 1
    times: int | None = None
    seen: int = 0
    struck: int = 0

    def meets(self, head: Head) -> bool:
        """Count a request; True where it meets the faults."""
        if self.method not in ("", head.method) or not re.search(self.path, head.target):
            return False
        self.seen += 1
        last = self.times is not None and self.struck >= self.times
        if not self.faults or self.seen < self.first or last:
            return False
        self.struck += 1
        return True
