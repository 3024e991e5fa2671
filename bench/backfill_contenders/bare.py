"""(d) The bare limit: the bytes read and decoded to Arrow by native code, and nothing else."""

import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
import pyruhvro

from bench.backfill_contenders import python_rules

TYPES = {
    "ign": pa.bool_(),
    "odo": pa.int64(),
    "ts": pa.int64(),
    "nos": pa.int64(),
    "fix": pa.int64(),
    "door": pa.int64(),
    "rssi": pa.int64(),
    "dtc": pa.list_(pa.string()),
    "tp": pa.list_(pa.float64()),
}
BOOLEANS = ("ign", "eng", "chg", "dopen", "lock", "hl")


def run(archive: Path, out: Path) -> None:
    """Decode every object; `out` stays empty."""
    [topic] = (archive / "topics").iterdir()
    kind = topic.name.removeprefix("message-")
    for path in sorted(topic.rglob("*")):
        if path.suffix == ".gz":
            decode_json(path, kind)
        elif path.suffix == ".parquet":
            decode_avro(path, archive)


def json_schema(kind: str) -> pa.Schema:
    def typed(key: str) -> pa.DataType:
        return pa.bool_() if key in BOOLEANS else TYPES.get(key, pa.float64())

    fields = pa.struct([(key, typed(key)) for key in python_rules.JSON_NAMES[kind]])
    head = [
        ("device_no", pa.string()),
        ("type", pa.string()),
        ("fw", pa.string()),
        ("boot", pa.int64()),
        ("seq", pa.int64()),
        ("ts", pa.int64()),
        ("timestamp", pa.string()),
    ]
    payload = ("data", pa.list_(fields)) if kind == "gps" else ("d", fields)
    return pa.schema([*head, payload])


def decode_json(path: Path, kind: str) -> pa.Table:
    return pyarrow.json.read_json(
        io.BytesIO(gzip.decompress(path.read_bytes())),
        read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=16 << 20),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=json_schema(kind)),
    )


def decode_avro(path: Path, archive: Path) -> pa.RecordBatch:
    values = pq.read_table(path, columns=["value"])["value"].to_pylist()
    number = int.from_bytes(values[0][1:5], "big")
    schema = (archive / "schemas" / f"{number}.avsc").read_text()
    return pyruhvro.deserialize_array([value[5:] for value in values], schema)
