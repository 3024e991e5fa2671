"""What can go wrong with an HTTP request, and with which of them it does."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from runners.stack.faults.http_wire import Head


@dataclass(frozen=True)
class Answer:
    """Take the request in and answer it without asking the server."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reset:
    """Break the connection before the server hears of the request."""


@dataclass(frozen=True)
class ResetInRequest:
    """Break the connection, on both sides, after so many bytes of the request's body."""

    after: int


@dataclass(frozen=True)
class ResetInAnswer:
    """Break the connection after so many bytes of the answer's body."""

    after: int


@dataclass(frozen=True)
class LoseAnswer:
    """Let the server do its work, take its whole answer, and break the connection instead."""


@dataclass(frozen=True)
class Delay:
    """Wait before anything else is done; long enough, and it is a server that never answers."""

    seconds: float


@dataclass(frozen=True)
class Slow:
    """A link that carries so many bytes of bodies a second, each way."""

    bytes_per_s: int


@dataclass(frozen=True)
class Rewrite:
    """Answer with another body: `change` gets the server's, uncompressed."""

    change: Callable[[bytes], bytes]


Fault = Answer | Reset | ResetInRequest | ResetInAnswer | LoseAnswer | Delay | Slow | Rewrite


@dataclass
class Rule:
    """What happens to requests of `method` ("" for any) whose path and query hold `path` (a regular
    expression): `faults`, from the `first` on, so many `times` (None for ever). Without faults it
    only counts. `seen` requests matched, `struck` of them met the faults."""

    method: str
    path: str
    faults: tuple[Fault, ...] = ()
    first: int = 1
    times: int | None = None
    seen: int = 0
    struck: int = 0

    def meets(self, head: Head) -> bool:
        """Count a request; whether the faults are its."""
        if self.method not in ("", head.method) or not re.search(self.path, head.target):
            return False
        self.seen += 1
        last = self.times is not None and self.struck >= self.times
        if not self.faults or self.seen < self.first or last:
            return False
        self.struck += 1
        return True
