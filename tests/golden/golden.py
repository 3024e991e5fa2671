"""Runs a golden case through the real job and reads what it wrote, in a form people can read.

A case is a folder of `cases/`: `bindings.csv`, an archive in `topics/` and what must become of it
in `expected/`, a file a table. In the archive `<name>.avro.json` and `<name>.parquet.json` say in
JSON what the binary object `<name>` holds.
"""

from __future__ import annotations

import io
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apache_beam as beam
import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline

from connectors.archive.read import list_objects
from pipelines.backfill.beam import build
from pipelines.backfill.spec import BackfillSpec
from schemas import MESSAGE_TYPES, load

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.name for path in CASES.iterdir())
SYNC = b"odograph golden!"
ORDER = ("source_line", "line", "sample_idx", "vehicle_id", "minute")
WRITERS = {
    1: load("message_log").avro,
    2: load("message_gps").avro,
}


def run_case(name: str, workspace: Path) -> dict[str, str]:
    """The tables, dead letters and ledger of a case: file name of `expected/` to its text."""
    archive = workspace / "archive"
    shutil.copytree(CASES / name / "topics", archive / "topics")
    for described in sorted(archive.rglob("*.avro.json")):
        _replace(described, container(json.loads(described.read_text())))
    for described in sorted(archive.rglob("*.parquet.json")):
        _replace(described, parquet(json.loads(described.read_text())))
    (workspace / "schemas").mkdir()
    for number, writer in WRITERS.items():
        (workspace / "schemas" / f"{number}.avsc").write_text(json.dumps(writer))
    job = BackfillSpec(
        archive=str(archive),
        bindings=str(CASES / name / "bindings.csv"),
        lake=str(workspace / "lake"),
        spool=str(workspace / "spool"),
        schemas=str(workspace / "schemas"),
    )
    found = {"ledger": run_job(job)}
    for path in sorted((workspace / "lake").glob("[!_]*/**/*.parquet")):
        table, folder = path.relative_to(workspace / "lake").parts[0], path.parent
        place = f"{folder.parent.name}/{folder.name}/{path.name}"
        found.setdefault(table, {})[place] = rows_of(path)
    return {f"{table}.json": text_of(content) for table, content in found.items()}


def run_job(job: BackfillSpec) -> dict[str, Any]:
    """The ledger of a backfill run by a test pipeline."""
    listing = list_objects(job.topics, job.zone, frozenset(MESSAGE_TYPES))
    assert listing.broken == []
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        ledger = build(pipeline, job, listing.objects)
        _ = ledger | "keep ledger" >> beam.Map(_store, job)
    data = job.state.folder.read("golden-ledger.json")
    assert data is not None
    return dict(json.loads(data.to_pybytes()))


def _store(ledger: dict[str, Any], job: BackfillSpec) -> None:
    job.state.folder.write("golden-ledger.json", json.dumps(ledger).encode())


def _replace(described: Path, data: bytes) -> None:
    described.with_suffix("").write_bytes(data)
    described.unlink()


def container(described: dict[str, Any]) -> bytes:
    """An Avro container: `schema` (id in WRITERS) and `blocks`, each a list of records; a text
    stands for raw bytes in hex."""
    writer = fastavro.parse_schema(json.loads(json.dumps(WRITERS[described["schema"]])))
    stream = io.BytesIO()
    fastavro.writer(stream, writer, [], sync_marker=SYNC)
    for block in described["blocks"]:
        data = b"".join(datum(described["schema"], record) for record in block)
        stream.write(_long(len(block)) + _long(len(data)) + data + SYNC)
    return stream.getvalue()


def parquet(described: list[dict[str, Any]]) -> bytes:
    """Odograph's archive of exact bytes: `offset`, `timestamp` (ISO) and the value as `record` of
    `schema` in Confluent framing, as `text` or in `hex`."""
    rows = []
    for one in described:
        if "record" in one:
            value = b"\0" + one["schema"].to_bytes(4, "big") + datum(one["schema"], one["record"])
            value += bytes.fromhex(one.get("tail", ""))
        else:
            value = one["text"].encode() if "text" in one else bytes.fromhex(one["hex"])
        rows.append({
            "topic": one["topic"], "partition": 0, "offset": one["offset"], "value": value,
            "timestamp": datetime.fromisoformat(one["timestamp"]),
            "key": one.get("key", "").encode(),
        })  # fmt: skip
    kinds = {
        "topic": pa.string(), "partition": pa.int32(), "offset": pa.int64(), "value": pa.binary(),
        "timestamp": pa.timestamp("ms", tz="UTC"), "key": pa.binary(),
    }  # fmt: skip
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(kinds)), sink)
    return sink.getvalue()


def datum(schema: int, record: dict[str, Any] | str) -> bytes:
    """One Avro record; a text is its bytes in hex. Times may be ISO texts."""
    if isinstance(record, str):
        return bytes.fromhex(record)
    stream = io.BytesIO()
    fastavro.schemaless_writer(
        stream, fastavro.parse_schema(json.loads(json.dumps(WRITERS[schema]))), _timed(record)
    )
    return stream.getvalue()


def _timed(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: datetime.fromisoformat(one) if key.endswith("_time") and one else _timed(one)
            for key, one in value.items()
        }
    return [_timed(one) for one in value] if isinstance(value, list) else value


def _long(number: int) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, "long", number)
    return stream.getvalue()


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Rows of a lake object in the order of their keys; columns that are null are left out."""
    table = pq.read_table(path, partitioning=None)
    table = table.sort_by([(name, "ascending") for name in ORDER if name in table.column_names])
    columns = {
        field.name: [_shown(value, field.type) for value in table[field.name].to_pylist()]
        for field in table.schema
        if field.name != "pipeline_version"
    }
    rows = (
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    )
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def _shown(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_timestamp(kind):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if kind == pa.float32():
        return float(str(np.float32(value)))
    if kind == pa.float64():
        return round(value, 9)
    if pa.types.is_binary(kind):
        return value.decode("latin-1")
    if pa.types.is_map(kind):
        return {key: _shown(one, kind.item_type) for key, one in value} or None
    if pa.types.is_list(kind):
        return [_shown(one, kind.value_type) for one in value]
    return value


def text_of(content: Any) -> str:
    """JSON with a line a row."""
    if "totals" in content:
        return json.dumps(content, indent=1) + "\n"
    objects = []
    for place, rows in content.items():
        lines = ",\n  ".join(json.dumps(row) for row in rows)
        objects.append(f" {json.dumps(place)}: [\n  {lines}\n ]")
    return "{\n" + ",\n".join(objects) + "\n}\n"
