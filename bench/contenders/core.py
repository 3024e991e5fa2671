"""(a) The core of this project, without an engine: batches in memory, one file an hour out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from connectors.archive import list_objects, read_object
from connectors.bindings import load_bindings
from connectors.files import S3Settings, folder
from connectors.lake import TableWriter
from pipelines.job import SchemaDirectory
from schemas import MESSAGE_TYPES
from transforms.decode import Decoder
from transforms.facts import facts
from transforms.rules import Rules

ZONE = "Asia/Seoul"


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
            rows = pa.Table.from_batches(batches).unify_dictionaries()
            write(tables, f"telemetry_{message_type}", rows, "event_time")
        write(tables, "vehicle_minutes", found.minutes, "minute")


def write(tables: TableWriter, name: str, rows: pa.Table, time: str) -> None:
    """Rows of a table by their event hour, a million at a time."""
    for start in range(0, rows.num_rows, 1_000_000):
        [batch] = rows.slice(start, 1_000_000).combine_chunks().to_batches()
        tables.write(name, batch, np.asarray(batch.column(time).cast(pa.int64())))


def raws(archive: Path, rules: Rules) -> Iterator[pa.RecordBatch]:
    """Raw batches of all objects, in order."""
    topics = folder(str(archive), S3Settings()).child("topics")
    for one in list_objects(topics, ZONE, frozenset(MESSAGE_TYPES)).objects:
        yield from read_object(topics, one, rules.bounds.max_dead_letter_bytes)
