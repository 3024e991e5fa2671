"""Writes the exact archive of device topics: objects by block of offsets and hour of arrival, each
written again, whole, while its block grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from connectors.archive.parquet import SCHEMA
from connectors.archive.settings import ArchiveSettings
from connectors.archive.write_object import CACHE_BYTES, Cache, Objects
from connectors.archive.write_partition import KafkaSource, PartitionWriter, Source
from connectors.kafka.settings import KafkaSettings
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings, named_folder
from transforms.model.arrow_numpy import filled_int64, ranks, single

OLD_FOLDER = "old"


@dataclass(frozen=True)
class Archived:
    """What became of a batch: `rows` of it the archive has now (all of them), `size` bytes sent
    for them, `retries` requests repeated, `completed` records fetched from Kafka that come before
    them, `lost` offsets that neither archive nor Kafka has any more, `left_out` records the old
    layout cannot hold."""

    rows: int
    size: int = 0
    retries: int = 0
    completed: int = 0
    lost: int = 0
    left_out: int = 0


class ArchiveWriter:
    """Writes batches of exact records below `topics/` of a folder; `zone` is the fleet's.

    Batches of one partition come in the order of their offsets, from one caller at a time; they
    may repeat what came before, here or in another process.
    """

    def __init__(
        self, objects: Objects, zone: str, settings: ArchiveSettings, source: Source
    ) -> None:
        self._objects, self._zone, self._settings, self._source = objects, zone, settings, source
        self._partitions: dict[tuple[str, int], PartitionWriter] = {}
        self._pool = ThreadPoolExecutor(settings.max_in_flight_requests, "archive")
        self._tidied = objects.archive.local

    def write(self, records: pa.RecordBatch) -> Archived:
        """Archive records (columns of `raw_messages.SCHEMA`) of any partitions; on return they
        are durable. Records that lie between what is archived of a partition and its first one
        here are read from Kafka first.

        Raises DependencyFailed when the store or Kafka stays away, or an object is in the way;
        writing the same again is right then.
        """
        rows = pa.Table.from_batches([records]).select(SCHEMA.names).cast(SCHEMA)
        work = [self._pool.submit(self._writer(*place).take, part) for place, part in _parts(rows)]
        wait(work)
        tally: Counter[str] = Counter()
        for one in work:
            tally.update(one.result())
        if not self._tidied:
            self._objects.archive.sweep()
            self._tidied = True
        return Archived(records.num_rows, **tally)

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _writer(self, topic: str, partition: int) -> PartitionWriter:
        place = (topic, partition)
        if place not in self._partitions:
            self._partitions[place] = PartitionWriter(
                *place, self._objects, self._zone, self._settings, self._source
            )
        return self._partitions[place]


def _parts(rows: pa.Table) -> Iterator[tuple[tuple[str, int], pa.Table]]:
    """Records by partition, offsets ascending, each once."""
    topics = single(rows["topic"])
    topic, partition = ranks(topics), filled_int64(rows["partition"], 0)
    offset = filled_int64(rows["offset"], 0)
    order = np.lexsort((offset, partition, topic))
    keys = np.stack([topic, partition, offset])[:, order]
    differs = keys[:, 1:] != keys[:, :-1]
    order = order[np.append(True, differs.any(axis=0))[: len(order)]]
    cuts = np.flatnonzero((np.diff(topic[order]) != 0) | (np.diff(partition[order]) != 0)) + 1
    for part in np.split(order, cuts):
        if len(part):
            first = int(part[0])
            together = (np.diff(part) == 1).all()
            taken = rows.slice(first, len(part)) if together else rows.take(pa.array(part))
            yield (topics[first].as_py(), int(partition[first])), taken


def archive_writer(
    settings: ArchiveSettings, zone: str, kafka: KafkaSettings, s3: S3Settings
) -> ArchiveWriter:
    """The writer that settings describe. Raises BadSettings where they name no folder."""
    archive = folder(named_folder("archive", settings.folder), s3)
    old = None
    if settings.old_layout:
        named = settings.old_folder
        old = folder(named, s3) if named else archive.child(OLD_FOLDER)
    objects = Objects(archive, old, Cache(CACHE_BYTES))
    return ArchiveWriter(objects, zone, settings, KafkaSource(kafka))
