"""(a) The core of this project, without an engine: batches in memory, one file an hour out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from connectors.archive.read import list_objects, read_object
from connectors.lake.write import TableWriter
from connectors.operations_db.bindings_file import load_bindings
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from pipelines.backfill.spec import SchemaDirectory
from schemas import MESSAGE_TYPES
from transforms.decode.decoder import Decoder
from transforms.facts.in_memory import facts
from transforms.model.thresholds import Rules

ZONE = "Asia/Seoul"
ROWS = 131_072


def run(archive: Path, out: Path) -> None:
    """Archive to Parquet under `out`."""
    settings, rules = S3Settings(), Rules()
    terminals = load_bindings(str(archive / "device_binding.csv"), settings)
    writers = SchemaDirectory(str(archive / "schemas"), settings)
    decoder = Decoder(rules.bounds, terminals.known, writers)
    found = facts(raws(archive, rules), decoder, terminals.bindings, rules)
    lake = folder(str(out), settings)
    with TableWriter(lake, "all.parquet", ZONE) as tables:
        for message_type, batches in found.telemetry.items():
            for batch in joined(batches):
                write(tables, f"telemetry_{message_type}", batch, "event_time")
        for batch in found.minutes.to_batches():
            write(tables, "vehicle_minutes", batch, "minute")


def joined(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at least ROWS, so that row groups are worth reading."""
    waiting: list[pa.RecordBatch] = []
    for position, batch in enumerate(batches, 1):
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= ROWS or position == len(batches):
            table = pa.Table.from_batches(waiting)
            table = table.unify_dictionaries() if len(waiting) > 1 else table
            yield from table.combine_chunks().to_batches()
            waiting = []


def write(tables: TableWriter, name: str, batch: pa.RecordBatch, time: str) -> None:
    """Rows of a table, split by their event hour."""
    tables.write(name, batch, np.asarray(batch.column(time).cast(pa.int64())))


def raws(archive: Path, rules: Rules) -> Iterator[pa.RecordBatch]:
    """Raw batches of all objects, in order."""
    topics = folder(str(archive), S3Settings()).child("topics")
    for one in list_objects(topics, ZONE, frozenset(MESSAGE_TYPES)).objects:
        yield from read_object(topics, one, rules.bounds.max_dead_letter_bytes)
