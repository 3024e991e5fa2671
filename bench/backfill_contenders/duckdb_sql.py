"""(c) DuckDB: the same rules as SQL over the same files.

It reads gzip JSON itself. Avro values inside Parquet it cannot decode, and its avro extension is
not published for the DuckDB release measured; there pyruhvro decodes and DuckDB does the rest.
"""

import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pyruhvro

from bench.backfill_contenders.output import plain

SQL = Path(__file__).parent / "duck"


def run(archive: Path, out: Path) -> None:
    """Archive to rows and minutes under `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "vehicle_minutes").mkdir()
    [topic] = (archive / "topics").iterdir()
    kind = topic.name.removeprefix("message-")
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute("set timezone = 'UTC'")
        con.execute("set variable archive = $1", [archive.as_posix()])
        con.execute("set variable out = $1", [out.as_posix()])
        con.execute("set variable kind = $1", [kind])
        if next(topic.rglob("*.json.gz"), None):
            con.execute(sql(f"read_{kind}_json"))
        else:
            con.register("decoded", pa.concat_tables(decoded(archive, topic)))
            con.execute(sql("read_arrow"))
            con.unregister("decoded")
        con.execute(sql(kind).replace("--rules", sql("rules")))
        con.execute(sql("write"))


def sql(name: str) -> str:
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def decoded(archive: Path, topic: Path):
    """The records of every object as columns."""
    schemas: dict[int, str] = {}
    for path in sorted(topic.rglob("*.parquet")):
        table = pq.read_table(path, columns=["offset", "value"])
        values = table["value"].to_pylist()
        [number] = {int.from_bytes(value[1:5], "big") for value in values}
        if number not in schemas:
            text = (archive / "schemas" / f"{number}.avsc").read_bytes()
            schemas[number] = json.dumps(plain(json.loads(text)))
        batch = pyruhvro.deserialize_array([value[5:] for value in values], schemas[number])
        columns = pa.Table.from_batches([batch])
        columns = columns.append_column("offset", table["offset"])
        yield columns.append_column("object", pa.array([path.as_posix()] * len(values)))
