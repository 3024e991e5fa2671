"""Rows that a store refuses together are halved until single rows are at fault.

Where single row after single row is refused and none is kept, it is not the rows: the store itself
is doubted. Bad rows lie side by side and good ones elsewhere, so the largest parts that wait are
tried before that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

ENOUGH = 8
"""So many single rows may be refused without a kept one before the store is doubted."""
IN_VAIN = 32
"""So many requests more are refused then before it is given up."""


class Rows(Protocol):
    """Rows or their numbers: a table, an array, a range."""

    def __len__(self) -> int:
        """How many they are."""

    def __getitem__(self, rows: slice, /) -> Any:
        """Some of them."""


Part = TypeVar("Part", bound=Rows)


class NoneKept(Exception):
    """The store refuses whatever it is given; `rows` were refused one by one."""

    def __init__(self, rows: int) -> None:
        super().__init__(f"{rows} rows were refused, none was kept")
        self.rows = rows


@dataclass
class Doubt:
    """About a store: single `rows` that it refused since it kept one, in one write or in several.
    Who keeps rows sets it to 0."""

    rows: int = 0


class Bisect(Generic[Part]):
    """The parts of a write that wait for their turn, from which a sink takes one after another.
    `kept` rows are those that the sink counts as such, `halved` how many parts were cut. With
    `doubt` the store is doubted; without, every row has its turn alone if need be."""

    def __init__(self, parts: Iterable[Part] = (), doubt: Doubt | None = None) -> None:
        self.kept = self.halved = self._in_vain = 0
        self._doubt = doubt
        self._waiting: deque[Part] = deque()
        self._later = iter(parts)

    def __bool__(self) -> bool:
        """Whether a part waits."""
        if not self._waiting:
            self._waiting.extend(islice(self._later, 1))
        return bool(self._waiting)

    def __iter__(self) -> Iterator[Part]:
        """Take parts until none waits; what is put back or halved meanwhile comes first."""
        while self:
            yield self.take()

    def take(self) -> Part:
        """The part whose turn it is; one must wait."""
        assert self, "no part waits"
        return self._waiting.popleft()

    def put_back(self, *parts: Part) -> None:
        """Have these come first."""
        self._waiting.extendleft(reversed(parts))

    def halve(self, part: Part) -> bool:
        """Have the halves of a part come first; False, and nothing is done, for a single row."""
        middle = len(part) // 2
        if not middle:
            return False
        self.halved += 1
        self.put_back(part[:middle], part[middle:])
        return True

    def refused(self, part: Part, unanswered: bool = False) -> bool:
        """The store refused a part and named no row: halve it; False for a single row, which is
        the caller's to name. Raises NoneKept where the store is doubted and neither a part waits
        nor a request is `unanswered`, or IN_VAIN requests were refused since."""
        halved = self.halve(part)
        if self._doubt is None:
            return halved
        self._doubt.rows += not halved
        if self._doubt.rows >= ENOUGH and not self.kept:
            self._in_vain += 1
            if self._in_vain > IN_VAIN or not (self or unanswered):
                raise NoneKept(self._doubt.rows)
            self._waiting = deque(sorted(self._waiting, key=len, reverse=True))
        return halved
