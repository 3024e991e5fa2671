"""One partition's way into the archive, without a gap: what lies between the archive and a batch
is read from Kafka, and what Kafka has no longer is noted as lost."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from connectors.archive import names
from connectors.archive.parquet import SCHEMA
from connectors.archive.progress import ArchiveConflict, Progress, ProgressFile
from connectors.archive.write_object import Objects, Patience
from connectors.errors import DependencyFailed
from connectors.kafka.bounded_read import OffsetsGone, read_range
from connectors.kafka.client import begin_offsets
from connectors.kafka.settings import KafkaSettings
from connectors.retries import DeliverySettings
from transforms.model.arrow_numpy import filled_int64
from transforms.model.fleet_hours import local_hours

_LOG = logging.getLogger(__name__)


class Source(Protocol):
    """The topics, for records that a batch does not hold."""

    def begin(self, topic: str, partition: int) -> int:
        """The first offset the partition still holds. Raises DependencyFailed."""

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[pa.RecordBatch]:
        """Records of offsets [start, end) as raw batches. Raises OffsetsGone, DependencyFailed."""


@dataclass(frozen=True)
class KafkaSource:
    """The topics on Kafka: what is committed."""

    settings: KafkaSettings

    def begin(self, topic: str, partition: int) -> int:
        """See Source."""
        return begin_offsets(self.settings, [topic])[topic, partition]

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[pa.RecordBatch]:
        """See Source."""
        return read_range(self.settings, topic, partition, start, end)


class PartitionWriter:
    """Archives one partition. Use from one thread at a time."""

    def __init__(
        self,
        topic: str,
        partition: int,
        objects: Objects,
        zone: str,
        settings: DeliverySettings,
        source: Source,
    ) -> None:
        self._topic, self._partition, self._zone = topic, partition, zone
        self._objects, self._settings, self._source = objects, settings, source
        self._mark = ProgressFile(objects.archive, topic, partition)
        self._next: int | None = None

    def take(self, rows: pa.Table) -> Counter[str]:
        """Archive records (`archive_write_object.SCHEMA`, offsets ascending), and before them
        what the archive lacks; returns counts of `archive_write.Archived`. Raises
        DependencyFailed."""
        tally: Counter[str] = Counter()
        patience = Patience(self._settings, tally)
        try:
            patience(self._mark.look)
            first, last = rows["offset"][0].as_py(), rows["offset"][-1].as_py()
            if self._next is None or first < self._next:
                self._recognise(patience)
            reached = self._reached(first, patience)
            while reached < first:
                reached = self._complete(reached, first, patience)
            self._join(rows, patience)
            self._move(first, last + 1, patience)
        except ArchiveConflict as error:
            raise DependencyFailed(str(error)) from error
        self._next = last + 1
        return tally

    def _recognise(self, patience: Patience) -> None:
        """See that the topic reaches as far as its archive and has the archive's last record,
        unless that is deleted. Raises ArchiveConflict where it is another topic of the same
        name."""
        known = self._mark.progress
        if known is None or known.begin == known.end:
            return
        try:
            found = self._read(known.end - 1, known.end)
        except OffsetsGone as error:
            if self._source.begin(self._topic, self._partition) >= known.end:
                return
            raise ArchiveConflict(
                f"{self._topic}-{self._partition}: {self._objects.archive.uri} holds offsets"
                f" {known.begin} to {known.end - 1}, and the topic ends before: it was deleted and"
                f" made again. Archive it to another folder ({error})"
            ) from error
        self._join(found, patience)

    def _read(self, start: int, end: int) -> pa.Table:
        """Records of a range that Kafka holds. Raises OffsetsGone, DependencyFailed."""
        found = list(self._source.read(self._topic, self._partition, start, end))
        if not found:
            return SCHEMA.empty_table()
        return pa.Table.from_batches(found).select(SCHEMA.names).cast(SCHEMA)

    def _reached(self, first: int, patience: Patience) -> int:
        """Where the archive ends. A new one begins with the block of its first record, as far as
        Kafka holds that, and says so before anything is in it."""
        known = self._mark.progress
        if known:
            return known.end
        begin = first // names.BLOCK * names.BLOCK
        if begin < first:
            begin = min(first, max(begin, self._source.begin(self._topic, self._partition)))
        self._move(begin, begin, patience)
        return begin

    def _move(
        self, begin: int, end: int, patience: Patience, lost: tuple[tuple[int, int], ...] = ()
    ) -> None:
        patience(lambda: self._mark.move(Progress(begin, end, lost)))

    def _complete(self, start: int, first: int, patience: Patience) -> int:
        """Archive records of offsets from `start` to the end of its block or to `first`; returns
        how far it came."""
        held = self._source.begin(self._topic, self._partition)
        if start < held:
            return self._pass_over(start, min(held, first), patience)
        end = min(first, (start // names.BLOCK + 1) * names.BLOCK)
        try:
            rows = self._read(start, end)
        except OffsetsGone:
            if self._source.begin(self._topic, self._partition) == held:
                raise
            return start
        patience.tally["completed"] += rows.num_rows
        self._join(rows, patience)
        self._move(start, end, patience)
        return end

    def _pass_over(self, start: int, end: int, patience: Patience) -> int:
        """Note what Kafka deleted before it was archived."""
        _LOG.error(
            "%s-%d: offsets %d to %d are lost, Kafka deleted them before they were archived",
            self._topic, self._partition, start, end - 1,
        )  # fmt: skip
        patience.tally["lost"] += end - start
        self._move(start, end, patience, ((start, end),))
        return end

    def _join(self, rows: pa.Table, patience: Patience) -> None:
        known = self._mark.progress
        assert known is not None
        for name, part in self._by_object(rows):
            due = known.holds(filled_int64(part["offset"], 0))
            patience(functools.partial(self._objects.join, name, part, due, patience.tally))

    def _by_object(self, rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        starts = filled_int64(rows["offset"], 0) // names.BLOCK * names.BLOCK
        stamps = np.clip(filled_int64(rows["timestamp"], 0), 0, names.LAST_MS)
        hours = local_hours(stamps, self._zone)
        for start in np.unique(starts).tolist():
            for hour in np.unique(hours[starts == start]).tolist():
                block = names.OffsetBlock(
                    self._topic, self._partition, start, start + names.BLOCK, start
                )
                chosen = pa.array((starts == start) & (hours == hour))
                yield names.object_name(block, hour), rows.filter(chosen)
