"""Records, a log of them that stands in for Kafka, and what lies in an archive."""

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.archive.parquet import SCHEMA as ARCHIVED
from connectors.archive.progress import ProgressFile
from connectors.archive.settings import ArchiveSettings
from connectors.archive.write import ArchiveWriter
from connectors.archive.write_object import CACHE_BYTES, Cache, Objects
from connectors.kafka.bounded_read import OffsetsGone
from connectors.storage.folder import folder
from transforms.model import raw_messages

ZONE = "Asia/Seoul"
HOUR_MS = 3_600_000
START_MS = 1_705_330_800_000
"""16 January 2024 00:00 in Seoul."""
QUICK = ArchiveSettings(max_retries=3, retry_backoff_ms=1, retry_backoff_max_ms=5)
TOPIC = "message-gps"


def record(offset, topic=TOPIC, partition=0, hour=0, value=None, **other):
    """A record that arrived `hour` hours after the start; its bytes tell where it lies."""
    given = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "line": offset,
        "timestamp": START_MS + hour * HOUR_MS + offset,
        "key": b"STS%d" % (offset % 7),
        "value": b'{"n":%d}' % offset if value is None else value,
        "headers": None,
        "is_line": False,
    }
    return given | other


def batch(records):
    """A raw batch."""
    return pa.RecordBatch.from_pylist(list(records), schema=raw_messages.SCHEMA)


def known(records):
    """Records as they are archived, by topic, partition and offset."""
    rows = batch(records).select(ARCHIVED.names).to_pylist()
    return sorted(rows, key=lambda row: (row["topic"], row["partition"], row["offset"]))


@dataclass
class Log:
    """Records as a topic keeps them: `begins` is where a partition begins."""

    records: list = field(default_factory=list)
    begins: dict = field(default_factory=dict)
    reads: list = field(default_factory=list)

    def begin(self, topic, partition):
        return self.begins.get((topic, partition), 0)

    def read(self, topic, partition, start, end):
        self.reads.append((topic, partition, start, end))
        if start < self.begin(topic, partition):
            raise OffsetsGone(f"{topic}-{partition} begins later")
        chosen = [
            one
            for one in self.records
            if (one["topic"], one["partition"]) == (topic, partition)
            and start <= one["offset"] < end
        ]
        return iter([batch(chosen)] if chosen else [])


def writer(place, log=None, settings=QUICK, s3=None, old=None, cache=CACHE_BYTES):
    """A writer as a fresh process has it."""
    archive = place if s3 is None else folder(place, s3)
    objects = Objects(archive, old, Cache(cache))
    return ArchiveWriter(objects, ZONE, settings, log or Log())


def object_names(place):
    """Names of the objects of records."""
    return [name for name, _ in place.child("topics").names()]


def archived(place):
    """All records by topic, partition and offset; each must lie in the object of its place."""
    rows = []
    for name in object_names(place):
        table = pq.read_table(pa.BufferReader(place.child("topics").read(name)))
        assert table.column("offset").to_pylist() == sorted(set(table.column("offset").to_pylist()))
        rows += table.cast(ARCHIVED).to_pylist()
    return sorted(rows, key=lambda row: (row["topic"], row["partition"], row["offset"]))


def read_progress(archive, topic, partition):
    """How far a partition is archived; None where it never was."""
    mark = ProgressFile(archive, topic, partition)
    mark.look()
    return mark.progress
