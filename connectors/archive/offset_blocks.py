"""Ranges of device topics on Kafka as objects of an archive, cut and named as Odograph's own
archive cuts and names them, so that it does not matter from which of the two a record was read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.archive.names import (
    BLOCK,
    ArchiveObject,
    OffsetBlock,
    arrival_hours,
    object_name,
    parse_name,
)
from connectors.errors import BadSettings
from connectors.kafka.bounded_read import read_range
from connectors.kafka.client import Partition, begin_offsets, end_offsets, offsets_at
from connectors.kafka.settings import KafkaSettings
from schemas.arrow import UTC_MS
from transforms.model import raw_messages
from transforms.model.arrow_numpy import filled_int64

BATCH_RECORDS, BATCH_BYTES = 16_384, 8 << 20
SCHEME = "kafka://"

_RANGE = re.compile(
    r"(?P<topic>[^:=]+):(?P<partition>\d{1,9})=(?P<first>\d{1,18})\.\.(?P<last>\d{1,18})"
)


@dataclass(frozen=True)
class OffsetBlocks:
    """The same as a listing of an archive: blocks to read, and what neither Kafka nor the lake
    has (any more): (name, reason)."""

    objects: list[OffsetBlock]
    broken: list[tuple[str, str]]


Spans = Mapping[Partition, tuple[int, int]]
"""Offsets [first, end) of partitions."""


def parse_ranges(text: str) -> dict[Partition, tuple[int, int]]:
    """`topic:partition=first..last,…`, both inclusive. Raises BadSettings."""
    spans: dict[Partition, tuple[int, int]] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        match = _RANGE.fullmatch(word)
        if match is None:
            raise BadSettings(f"{word!r} is no range such as message-gps:0=0..19999")
        place = (match["topic"], int(match["partition"]))
        first, end = int(match["first"]), int(match["last"]) + 1
        if first >= end:
            raise BadSettings(f"{word!r}: the first offset is behind the last")
        before = spans.get(place, (first, end))
        spans[place] = (min(first, before[0]), max(end, before[1]))
    if not spans:
        raise BadSettings("no range is given: write topic:partition=first..last")
    return spans


def spans_between(
    settings: KafkaSettings, topics: Iterable[str], start: datetime | None, end: datetime | None
) -> dict[Partition, tuple[int, int]]:
    """Offsets whose time stamps begin at `start` and end before `end`, of every partition; None
    is all that Kafka holds. Raises DependencyFailed."""
    names = list(topics)
    first = offsets_at(settings, names, start) if start else begin_offsets(settings, names)
    last = offsets_at(settings, names, end) if end else end_offsets(settings, names)
    return {place: (first[place], last[place]) for place in first if first[place] < last[place]}


Reached = Callable[[str, int, int], int | None]
"""The offset behind what a lake has of a block, given by topic, partition and first offset; None
where it has nothing."""


def list_blocks(
    settings: KafkaSettings, spans: Spans, reached: Reached, size: int = BLOCK
) -> OffsetBlocks:
    """The whole blocks of `size` offsets that `spans` touch, up to what is committed now. Where
    Kafka has deleted the beginning of a block, reading goes on behind what the lake has of it.

    Raises DependencyFailed, also for a topic or partition that is not there.
    """
    topics = sorted({topic for topic, _ in spans})
    held, limits = begin_offsets(settings, topics), end_offsets(settings, topics)
    absent = sorted(spans.keys() - held.keys())
    if absent:
        topic, partition = absent[0]
        raise BadSettings(f"topic {topic} has no partition {partition}")
    found = OffsetBlocks([], [])
    for place in sorted(spans):
        first, end = spans[place]
        end = min(end, limits[place])
        for start in range(first // size * size, end, size):
            block = OffsetBlock(*place, start, min(start + size, limits[place]), start)
            if start >= held[place]:
                found.objects.append(block)
                continue
            left, why = remainder(block, held[place], reached(*place, start))
            found.objects.extend([left] if left else [])
            found.broken.extend([(block.name, why)] if why else [])
    return found


def remainder(
    block: OffsetBlock, held: int, reached: int | None
) -> tuple[OffsetBlock | None, str | None]:
    """What is left of a block of which Kafka holds what is from `held` on: read on behind what the
    lake has, so that nothing it has is replaced by less. And what neither has, in words."""
    known = block.start if reached is None else reached
    last = min(held, block.end) - 1
    why = f"offsets {known} to {last} are no longer in Kafka: read them from the archive"
    start = max(known, held)
    name = block.start if reached is None else start
    left = replace(block, start=start, first_offset=name) if start < block.end else None
    return left, why if known <= last else None


def read_block(
    settings: KafkaSettings, block: OffsetBlock, zone: str
) -> Iterator[tuple[ArchiveObject, pa.RecordBatch]]:
    """Raw batches of a block in order, each with the object of its arrival hour.

    Raises DependencyFailed when brokers do not answer, OffsetsGone when they delete what is read.
    """
    records = read_range(settings, block.topic, block.partition, block.start, block.end)
    yield from cut(records, block, zone)


def cut(
    records: Iterable[pa.RecordBatch], block: OffsetBlock, zone: str
) -> Iterator[tuple[ArchiveObject, pa.RecordBatch]]:
    """The same of the records of a block. How batches are cut is a function of what the block
    holds, however it is delivered."""
    cutters: dict[int, _Cutter] = {}
    for batch in records:
        hours = arrival_hours(filled_int64(batch.column("timestamp"), 0), zone)
        for hour in np.unique(hours).tolist():
            if hour not in cutters:
                cutters[hour] = _Cutter(parse_name(object_name(block, hour), zone))
            cutter = cutters[hour]
            for part in cutter.feed(batch.filter(pa.array(hours == hour))):
                yield cutter.one, part
    for hour in sorted(cutters):
        for part in cutters[hour].finish():
            yield cutters[hour].one, part


class _Cutter:
    """Cuts the messages of an object into batches of at most so many records and, unless one
    alone is larger, bytes; a batch goes out once it is known to be full."""

    def __init__(self, one: ArchiveObject) -> None:
        self.one = one
        self._line = 0
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = self._records = 0

    def feed(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        self._waiting.append(batch)
        self._bytes += int(_sizes(batch).sum())
        self._records += batch.num_rows
        if self._bytes > BATCH_BYTES or self._records > BATCH_RECORDS:
            yield from self._cut(last=False)

    def finish(self) -> Iterator[pa.RecordBatch]:
        yield from self._cut(last=True)

    def _cut(self, last: bool) -> Iterator[pa.RecordBatch]:
        if not self._waiting:
            return
        whole = raw_messages.concat(self._waiting)
        ends = np.cumsum(_sizes(whole))
        begin, count = 0, whole.num_rows
        while begin < count:
            before = int(ends[begin - 1]) if begin else 0
            upto = int(np.searchsorted(ends, before + BATCH_BYTES, side="right"))
            end = min(max(upto, begin + 1), begin + BATCH_RECORDS)
            if end >= count and not last:
                break
            yield self._placed(whole.slice(begin, end - begin))
            begin = min(end, count)
        self._waiting = [whole.slice(begin)] if begin < count else []
        self._bytes = int(ends[-1]) - (int(ends[begin - 1]) if begin else 0)
        self._records = count - begin

    def _placed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        count, line = batch.num_rows, self._line
        self._line += count
        columns = {
            "object": raw_messages.constant(self.one.name, count, pa.string()),
            "line": pa.array(np.arange(line, line + count, dtype=np.int64)),
            "arrival_hour": raw_messages.constant(self.one.hour_ms, count, UTC_MS),
        }
        arrays = [columns.get(name, batch.column(name)) for name in batch.schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _sizes(batch: pa.RecordBatch) -> np.ndarray:
    """int64 of shape (rows,): bytes of the messages."""
    return filled_int64(pc.binary_length(batch.column("value")), 0)
