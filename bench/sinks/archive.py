"""How fast the exact archive is written, beside one Parquet file a batch and the store alone.

`python -m bench.sinks.archive [ROWS]` starts an S3 server; rows a second and second of CPU.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from connectors.archive.settings import ArchiveSettings
from connectors.archive.write import ArchiveWriter
from connectors.archive.write_object import CACHE_BYTES, Cache, Objects
from connectors.storage import s3
from connectors.storage.folder import Folder, folder
from connectors.storage.settings import S3Settings
from runners.stack.processes import free_port
from runners.stack.servers.s3 import REGION, S3
from tests.support.servers import CACHE, running, server_folder
from transforms.model.raw_messages import SCHEMA, constant

ROWS = 400_000
PARTITIONS = 4
TOPIC = "message-gps"
START_MS = 1_705_330_800_000
VALUE_BYTES = 400
BUCKET = "bench"


class NoGaps:
    """A topic from its first record on: nothing is missing."""

    def begin(self, topic: str, partition: int) -> int:
        """See `connectors.archive.write_partition.Source`."""
        return 0

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[pa.RecordBatch]:
        """See there."""
        return iter(())


@dataclass(frozen=True)
class Way:
    """One way to write batches of so many rows."""

    name: str
    write: Callable[[Folder, Any], None]
    batch_rows: int


def uploads(count: int, partition: int, first: int) -> pa.RecordBatch:
    """Records of one partition, a third of whose bytes repeat."""
    random = np.random.default_rng(partition + first)
    noise = random.integers(97, 123, (count, VALUE_BYTES * 2 // 3), np.uint8)
    same = np.tile(np.frombuffer(b'{"type":"gps","fw":"2.4.1"},' * 9, np.uint8)[:133], (count, 1))
    data = np.concatenate([same, noise], axis=1)
    ends = np.arange(count + 1, dtype=np.int32) * data.shape[1]
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(data.tobytes())]
    values = pa.Array.from_buffers(pa.binary(), count, buffers)
    offsets = pa.array(np.arange(first, first + count, dtype=np.int64))
    stamps = pa.array(np.arange(first, first + count, dtype=np.int64) * 9 + START_MS)
    keys = pa.array([b"STS%06d" % n for n in random.integers(0, 5000, count)], pa.binary())
    given = {
        "topic": constant(TOPIC, count, pa.string()),
        "partition": constant(partition, count, pa.int32()),
        "offset": offsets,
        "line": offsets,
        "timestamp": stamps.cast(SCHEMA.field("timestamp").type),
        "key": keys,
        "value": values,
        "is_line": constant(False, count, pa.bool_()),
    }
    columns = [given.get(field.name, pa.nulls(count, field.type)) for field in SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def batches(rows: int, size: int) -> list[pa.RecordBatch]:
    """All records, of one partition after another in turn."""
    each = rows // PARTITIONS
    return [
        uploads(size, partition, first)
        for first in range(0, each, size)
        for partition in range(PARTITIONS)
    ]


def ours(place: Folder, given: list[pa.RecordBatch]) -> None:
    objects = Objects(place, None, Cache(CACHE_BYTES))
    writer = ArchiveWriter(objects, "Asia/Seoul", ArchiveSettings(), NoGaps())
    for batch in given:
        writer.write(batch)
    writer.close()


def a_file_a_batch(place: Folder, given: list[pa.RecordBatch]) -> None:
    for number, batch in enumerate(given):
        with place.system.open_output_stream(place.at(f"{number}.parquet")) as stream:
            pq.write_table(pa.Table.from_batches([batch]), stream, compression="zstd")


def encoded(given: list[pa.RecordBatch]) -> list[bytes]:
    """What the naive way writes; made before the clock starts."""
    found = []
    for batch in given:
        stream = io.BytesIO()
        pq.write_table(pa.Table.from_batches([batch]), stream, compression="zstd")
        found.append(stream.getvalue())
    return found


def the_store_alone(place: Folder, given: list[bytes]) -> None:
    for number, data in enumerate(given):
        s3.put(place.settings, place.at(f"{number}.bin"), io.BytesIO(data), s3.ANY_VERSION)


WAYS = (
    Way("archive, whole blocks of 20,000", ours, 20_000),
    Way("archive, blocks that grow in four steps", ours, 5_000),
    Way("pyarrow, a file a batch of 20,000", a_file_a_batch, 20_000),
    Way("pyarrow, a file a batch of 5,000", a_file_a_batch, 5_000),
    Way("the store alone, the same bytes", the_store_alone, 20_000),
)


def measured(way: Way, place: Folder, rows: int) -> tuple[float, float]:
    """Seconds, and CPU seconds of this process."""
    given: Any = batches(rows, way.batch_rows)
    if way.write is the_store_alone:
        given = encoded(given)
    began, cpu = time.perf_counter(), time.process_time()
    way.write(place, given)
    return time.perf_counter() - began, time.process_time() - cpu


def main(rows: int) -> None:
    """Print the table."""
    table = Table(title=f"{rows:,} records of {VALUE_BYTES} bytes in {PARTITIONS} partitions")
    for name in ("way", "rows/s", "rows/s of CPU", "MB stored"):
        table.add_column(name, justify="left" if name == "way" else "right")
    with server_folder() as data, running(S3(data / "s3", CACHE, free_port())) as server:
        os.environ |= server.environment
        server.make_bucket(BUCKET)
        for number, way in enumerate(WAYS):
            place = folder(f"s3://{BUCKET}/{number}", S3Settings(server.address, REGION))
            seconds, cpu = measured(way, place, rows)
            stored = sum(size for _, size in place.names()) / 1e6
            table.add_row(way.name, f"{rows / seconds:,.0f}", f"{rows / cpu:,.0f}", f"{stored:.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
