"""The archive as the old sink wrote it: gzip NDJSON by arrival hour, named by first offset."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

OBJECT_MESSAGES = 2000
SEOUL_OFFSET = timedelta(hours=9)
HOUR_MS = 3_600_000
OPEN_AFTER_HOUR_MS = 10_000
COUNTS = (
    "in", "good", "dead", "duplicate", "late", "filtered", "samples", "duplicate_samples",
)  # fmt: skip


@dataclass(slots=True)
class Line:
    """One record of a device topic, and what should become of it."""

    topic: str
    partition: int
    arrival: int
    order: int
    payload: bytes
    dead: bool = False
    samples: int = 0
    inner_duplicates: int = 0
    repeats: str | None = None
    """The message_id other lines carry too."""
    received: int = 0
    case: dict[str, Any] | None = None
    key: str = ""


@dataclass(slots=True)
class Loose:
    """A line no upload stands for: junk, or an upload sent once more."""

    topic: str
    key: str
    arrival: int
    payload: bytes
    dead: bool = False
    repeats: str | None = None
    samples: int = 0
    inner_duplicates: int = 0
    received: int = 0
    case: dict[str, Any] | None = None

    def placed(self, partitions: int, delay_ms: int) -> Line:
        """The record this becomes, `delay_ms` after its arrival."""
        return Line(
            self.topic, partition_of(self.key, partitions), self.arrival,
            self.arrival + delay_ms, self.payload, self.dead, self.samples,
            self.inner_duplicates, self.repeats, self.received or self.arrival // 1000 * 1000,
            self.case, self.key,
        )  # fmt: skip


_Place = tuple[int, str, int, tuple[str, int, str], int, int]
"""Receive time, object, line, ledger row, samples and identical samples of one line."""


@dataclass(slots=True)
class _Object:
    first_offset: int
    lines: list[Line] = field(default_factory=list)


@dataclass(slots=True)
class Written:
    """An object of the archive; `name` is its path below topics/."""

    name: str
    topic: str
    partition: int
    hour: str
    first_offset: int
    lines: list[Line]


class Archive:
    """Collects lines, gives them offsets in arrival order and writes objects; without a folder
    it only counts."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else folder / "archive" / "topics"
        self._waiting: list[Line] = []
        self._offsets: Counter[tuple[str, int]] = Counter()
        self._open: dict[tuple[str, int, int], _Object] = {}
        self._repeats: dict[str, list[_Place]] = defaultdict(list)
        self._counts: dict[tuple[str, int, str], Counter[str]] = defaultdict(Counter)
        self.objects = 0
        self.copied = 0
        """Lines that only the old sink's restarts wrote twice."""
        self.broken: list[dict[str, str]] = []

    def put(self, line: Line) -> None:
        """Take a line; it is written once `flush` passes its place in the order."""
        self._waiting.append(line)

    def flush(self, until_ms: int | None) -> list[Written]:
        """Give offsets to lines ordered before `until_ms` (None: all) and write full objects."""
        due = [line for line in self._waiting if until_ms is None or line.order < until_ms]
        self._waiting = (
            [] if until_ms is None else [line for line in self._waiting if line.order >= until_ms]
        )
        due.sort(key=lambda line: (line.order, line.payload))
        written = []
        for line in due:
            where = (line.topic, line.partition)
            key = (*where, line.arrival // HOUR_MS)
            current = self._open.setdefault(key, _Object(self._offsets[where]))
            current.lines.append(line)
            self._offsets[where] += 1
            if len(current.lines) == OBJECT_MESSAGES:
                written.append(self._close(key))
        for key in sorted(self._open):
            if until_ms is None or (key[2] + 1) * HOUR_MS + OPEN_AFTER_HOUR_MS <= until_ms:
                written.append(self._close(key))
        return written

    def copy(self, original: Written) -> str:
        """Write an object again, as the old sink did on restart, under a name that sorts later."""
        hour, offset = original.hour, original.first_offset + 1
        if len(original.lines) == 1:
            moment = datetime.strptime(hour, "%Y%m%d%H") + timedelta(hours=1)
            hour, offset = moment.strftime("%Y%m%d%H"), original.first_offset
        name = object_name(original.topic, original.partition, hour, offset)
        again = Written(name, original.topic, original.partition, hour, offset, original.lines)
        self._write(again, again=True)
        self.copied += len(again.lines)
        return name

    def put_broken(self, name: str, content: bytes, reason: str) -> None:
        """Write an object no reader can use."""
        if self._folder is not None:
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.broken.append({"name": name, "reason": reason})

    def ledger(self) -> dict[str, Any]:
        """Settle which line of each repeated upload counts, and the sums."""
        for places in self._repeats.values():
            for rank, (_, _, _, key, samples, inner) in enumerate(sorted(places)):
                if rank == 0:
                    self._count_good(key, samples, inner)
                else:
                    self._counts[key]["duplicate"] += 1
        self._repeats.clear()
        by = [
            {"topic": topic, "partition": partition, "hour": hour}
            | {name: self._counts[topic, partition, hour][name] for name in COUNTS}
            for topic, partition, hour in sorted(self._counts)
        ]
        totals = {name: sum(row[name] for row in self._counts.values()) for name in COUNTS}
        objects = {
            "read": self.objects,
            "broken": sorted(self.broken, key=lambda broken: broken["name"]),
        }
        return {"totals": totals, "objects": objects, "by": by}

    def _close(self, key: tuple[str, int, int]) -> Written:
        current = self._open.pop(key)
        topic, partition, hours = key
        moment = datetime.fromtimestamp(hours * 3600, UTC) + SEOUL_OFFSET
        hour = moment.strftime("%Y%m%d%H")
        name = object_name(topic, partition, hour, current.first_offset)
        written = Written(name, topic, partition, hour, current.first_offset, current.lines)
        self._write(written)
        return written

    def _write(self, item: Written, again: bool = False) -> None:
        if self._folder is not None:
            path = self._folder / item.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip_bytes(b"".join(line.payload + b"\n" for line in item.lines)))
        self.objects += 1
        key = (item.topic, item.partition, item.hour)
        for number, line in enumerate(item.lines):
            self._counts[key]["in"] += 1
            if line.case is not None and "object" not in line.case:
                line.case["object"], line.case["line"] = item.name, number
            if line.dead:
                self._counts[key]["dead"] += 1
            elif line.repeats is None and again:
                self._counts[key]["duplicate"] += 1
            elif line.repeats is None:
                self._count_good(key, line.samples, line.inner_duplicates)
            else:
                place = (line.received, item.name, number, key, line.samples, line.inner_duplicates)
                self._repeats[line.repeats].append(place)

    def _count_good(self, key: tuple[str, int, str], samples: int, inner: int) -> None:
        counts = self._counts[key]
        counts["good"] += 1
        counts["samples"] += samples
        counts["duplicate_samples"] += inner


def object_name(topic: str, partition: int, hour: str, first_offset: int) -> str:
    """Path of an object below topics/; `hour` is yyyyMMddHH in Seoul."""
    folder = f"{hour[:4]}/{hour[4:6]}/{hour[6:8]}/{hour[8:]}"
    return f"{topic}/{folder}/{topic}+{partition}+{first_offset:010d}.json.gz"


def gzip_bytes(content: bytes) -> bytes:
    """Gzip without time or name, so that equal content makes equal bytes."""
    packer = zlib.compressobj(5, zlib.DEFLATED, 31)
    return packer.compress(content) + packer.flush()


def partition_of(key: str, partitions: int) -> int:
    """Kafka partition of a record with this key."""
    return zlib.crc32(key.encode()) % partitions
