"""How far each partition is archived: one small object a partition, beside the archive's topics."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import numpy as np

from connectors.storage.folder import Folder

PLACE = "_state/archive"
Span = tuple[int, int]


class ArchiveConflict(Exception):
    """The archive holds what this writer cannot continue, and waiting does not help: says where and
    what to do."""


@dataclass(frozen=True)
class Progress:
    """The archive holds every record of offsets [begin, end) but those of `lost`, which Kafka had
    deleted before they were archived."""

    begin: int
    end: int
    lost: tuple[Span, ...] = ()

    def moved(self, news: Progress) -> Progress:
        """The same with what was archived since. Raises ArchiveConflict where it does not join on,
        as when another writer began the archive meanwhile."""
        if news.begin > self.end:
            raise ArchiveConflict(
                f"offsets {self.end} to {news.begin - 1} were not archived: try again"
            )
        lost = tuple(sorted({*self.lost, *news.lost}))
        return Progress(self.begin, max(self.end, news.end), lost)

    def holds(self, offsets: np.ndarray) -> np.ndarray:
        """bool, shape (offsets,): where a record of this offset must be in the archive."""
        held = (self.begin <= offsets) & (offsets < self.end)
        for begin, end in self.lost:
            held &= (offsets < begin) | (end <= offsets)
        return held


def _name(topic: str, partition: int) -> str:
    return f"{PLACE}/{topic}+{partition}.json"


def _parsed(text: bytes) -> Progress:
    noted = json.loads(text)
    return Progress(noted["begin"], noted["end"], tuple((a, b) for a, b in noted["lost"]))


@dataclass
class ProgressFile:
    """The progress of one partition as a writer moves it. What another writer noted meanwhile is
    kept, so that it never goes back. Use from one thread at a time."""

    archive: Folder
    topic: str
    partition: int
    progress: Progress | None = None
    _version: str | None = None
    _seen: bool = field(default=False, repr=False)

    def look(self) -> None:
        """Read how far the partition is archived, if that is not known. Raises DependencyFailed."""
        if self._seen:
            return
        found = self.archive.read_version(_name(self.topic, self.partition))
        self.progress, self._version = (_parsed(found[0]), found[1]) if found else (None, None)
        self._seen = True

    def move(self, news: Progress) -> None:
        """Note what is archived now. Raises VersionConflict where another writer noted something
        meanwhile, DependencyFailed; call it again then. Raises ArchiveConflict."""
        self.look()
        progress = self.progress.moved(news) if self.progress else news
        if progress == self.progress:
            return
        self._seen = False
        text = json.dumps({"topic": self.topic, "partition": self.partition, **asdict(progress)})
        name = _name(self.topic, self.partition)
        self._version = self.archive.replace(name, text.encode(), self._version)
        self.progress, self._seen = progress, True
