"""How work travels between the client of a backfill and workers: through the spool, so that only
numbers pass the engine, however many objects an archive has."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from connectors.errors import DependencyFailed
from connectors.storage.folder import PARALLEL, Folder

EDGE = np.dtype("<i8")


@dataclass(frozen=True)
class WorkItems:
    """Numbered items of work in a folder, and what came of each. They are pickled, as engines
    pickle what they carry: whoever may write to the spool is trusted."""

    folder: Folder

    def put(self, items: Iterable[Any], shared: Any = None) -> int:
        """Store items, and what all of them need; returns how many there are."""
        edges = [0]
        with self.folder.whole("items") as stream:
            for item in items:
                packed = pickle.dumps(item)
                stream.write(packed)
                edges.append(edges[-1] + len(packed))
        self.folder.write("edges", np.array(edges, EDGE).tobytes())
        self.folder.write("shared", pickle.dumps(shared))
        return len(edges) - 1

    def item(self, number: int) -> Any:
        """One of them."""
        size = EDGE.itemsize
        edges = self.folder.read_part("edges", number * size, 2 * size)
        start, end = np.frombuffer(edges, EDGE).tolist()
        return pickle.loads(self.folder.read_part("items", start, end - start))

    def shared(self) -> Any:
        """What all of them need."""
        return self._read("shared")

    def is_done(self, number: int) -> bool:
        """Whether an item's result is there."""
        return self.folder.child(_result(number)).exists()

    def keep(self, number: int, result: Any) -> None:
        """Store what came of an item."""
        self.folder.write(_result(number), pickle.dumps(result))

    def results(self, count: int) -> Iterator[Any]:
        """What came of items 0 to `count` - 1, in order."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            for first in range(0, count, PARALLEL):
                numbers = range(first, min(first + PARALLEL, count))
                yield from pool.map(lambda number: self._read(_result(number)), numbers)

    def _read(self, name: str) -> Any:
        data = self.folder.read(name)
        if data is None:
            raise DependencyFailed(
                f"{self.folder.uri}/{name} is gone: do all workers reach this spool, "
                "and does nobody else empty it?"
            )
        return pickle.loads(data)


def _result(number: int) -> str:
    return f"results/{number // 1000:06d}/{number:09d}"
