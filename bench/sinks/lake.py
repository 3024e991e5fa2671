"""How fast the live lake is written, beside Flink SQL's filesystem sink and a plain client.

`python -m bench.sinks.lake` starts Kafka, a registry and Flink, sends uploads, and starts one
contender after another on them. Each is timed from its first row to the last one that a reader
finds; rows a second, and a second of processor time of JVM and Python together.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from bench.live_jobs import __main__ as live
from bench.live_jobs import contenders, sql
from bench.live_jobs.uploads import KINDS, Kind
from bench.live_jobs.watch import Cost, Source
from connectors.archive.offset_blocks import SCHEME, list_blocks, spans_between
from connectors.errors import DependencyFailed
from connectors.kafka.bounded_read import read_range
from connectors.kafka.client import begin_offsets, end_offsets
from connectors.lake.settings import LakeSettings
from connectors.operations_db.bindings_file import load_bindings
from connectors.schema_registry.lookup import RegistrySchemas
from connectors.storage.settings import S3Settings
from pipelines.backfill.spec import BackfillSpec
from pipelines.live.lake_sink.write_block import Core, write_block
from runners.artefacts.fetch import default_cache, kept, maven_jars
from runners.config import SinksConfig
from runners.flink.environment import flink_python
from runners.flink.live_job import LiveJob
from runners.flink.submit import submit
from runners.stack.catalogue import Choice, free_ports
from runners.stack.stack import down, up
from schemas import load
from transforms.decode.decoder import Decoder
from transforms.live.block_verdicts import NO_OVERRIDES

HERE = Path(__file__).parent
EVERY_S = 0.5
PATIENCE_S = 600
NAIVE_SHARE = 20
NAIVE_ROWS = 20_000
ZONE = ZoneInfo("Asia/Seoul")
LEFT_OUT = ("samples", "extras")


@dataclass
class Rows:
    """Rows of the finished Parquet files below a folder; footers are read once a file."""

    folder: Path
    _known: dict[tuple[Path, int], int] = field(default_factory=dict)

    def count(self) -> int:
        """How many there are now."""
        found = {}
        for path in self.folder.rglob("*"):
            if path.name[0] in "._" or not path.is_file() or "_state" in path.parts:
                continue
            try:
                key = (path, path.stat().st_mtime_ns)
                found[key] = self._known.get(key) or pq.read_metadata(path).num_rows
            except (FileNotFoundError, pa.ArrowInvalid):
                continue
        self._known = found
        return sum(found.values())


@dataclass(frozen=True)
class Result:
    """Rows, seconds and processor seconds (JVM, Python), and bytes of the files."""

    rows: int
    seconds: float
    jvm_s: float
    python_s: float
    size: int


def until_all(bench: contenders.Bench, job: str, folder: Path, total: int) -> Result:
    """Wait until a reader finds `total` rows; the clock starts when the job takes its first
    record."""
    source, cost = Source(bench.cluster, job), Cost(bench.flink).now
    while not source.taken():
        time.sleep(EVERY_S / 5)
    rows, began, before = Rows(folder), time.monotonic(), cost()
    while rows.count() < total:
        if time.monotonic() - began > PATIENCE_S:
            raise DependencyFailed(f"{rows.count():,} of {total:,} rows after {PATIENCE_S} s")
        time.sleep(EVERY_S)
    seconds, after = time.monotonic() - began, cost()
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return Result(total, seconds, after[0] - before[0], after[1] - before[1], size)


def ours(bench: contenders.Bench, kind: Kind, folder: Path) -> Result:
    """`odograph submit sink lake`; blocks of 20,000, corrections after three minutes."""
    store = LakeSettings(folder=str(folder), rotate_schedule_interval_ms=20_000)
    config = bench.config.model_copy(update={"sinks": SinksConfig(lake=store)})
    plan = LiveJob(
        job="sink-lake",
        config=config,
        python=str(flink_python()),
        start_at="earliest",
        bindings=str(bench.bindings),
    )
    job = submit(plan, bench.cluster, None)
    try:
        table = folder / f"telemetry_{kind.message_type}"
        return until_all(bench, job, table, _total(bench, kind))
    finally:
        contenders.end(bench.cluster, job)


def flink_sql(bench: contenders.Bench, kind: Kind, folder: Path) -> Result:
    """One INSERT into a filesystem table, partitioned by date and hour; files appear with
    checkpoints."""
    avro = load(f"message_{kind.message_type}").avro
    columns, chosen, source = _columns(kind, avro)
    declared = ", ".join(f"{name} {how}" for name, how in columns.items())
    sink = f"""CREATE TABLE lake ({declared}, `date` STRING, `hour` STRING)
 PARTITIONED BY (`date`, `hour`) WITH ('connector'='filesystem',
  'path'='{folder.as_uri()}','format'='parquet',
  'parquet.compression'='ZSTD','sink.rolling-policy.file-size'='128MB')"""
    insert = f"""INSERT INTO lake SELECT {", ".join(chosen)},
 DATE_FORMAT(event_time, 'yyyy-MM-dd'), DATE_FORMAT(event_time, 'HH') FROM {source}"""
    options = contenders._options(bench, f"bench-lake-{kind.message_type}", 1)
    options["pipeline.jars"] = ";".join(jar.as_uri() for jar in [*contenders.jars(), *_jars()])
    tables = [sql._device(kind, avro, bench.config), sink]
    plan = {"how": "sql", "tables": tables, "inserts": [insert], "options": options}
    with contenders._submitted(bench, plan) as job:
        return until_all(bench, job, folder, _total(bench, kind))


def naive(bench: contenders.Bench, kind: Kind, folder: Path) -> Result:
    """One process that decodes a message at a time and writes a file an hour and 20,000 rows."""
    schema = fastavro.parse_schema(load(f"message_{kind.message_type}").avro)
    waiting: dict[str, list[dict[str, Any]]] = defaultdict(list)
    total, done, number = _total(bench, kind) // NAIVE_SHARE, 0, 0
    began, before = time.monotonic(), time.process_time()
    topics = [kind.topic]
    begins, ends = (
        begin_offsets(bench.config.kafka, topics),
        end_offsets(bench.config.kafka, topics),
    )
    for place in sorted(ends):
        for batch in read_range(bench.config.kafka, *place, begins[place], ends[place]):
            for value in batch.column("value").to_pylist():
                upload = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
                del upload["extras"]
                samples = upload.pop("samples", None) or [{}]
                for sample in samples:
                    row = {**upload, **sample}
                    hour = row["device_time"].astimezone(ZONE).strftime("date=%Y-%m-%d/hour=%H")
                    waiting[hour].append(row)
                done += len(samples)
            for hour, rows in waiting.items():
                if len(rows) >= NAIVE_ROWS or done >= total:
                    path = folder / hour / f"{number}.parquet"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
                    waiting[hour], number = [], number + 1
            if done >= total:
                size = sum(p.stat().st_size for p in folder.rglob("*.parquet"))
                spent = time.process_time() - before
                return Result(done, time.monotonic() - began, 0.0, spent, size)
    raise DependencyFailed(f"{kind.topic} holds fewer than {total} rows")


def writing(bench: contenders.Bench, kind: Kind, folder: Path) -> Result:
    """What ours does to a block, alone in this process: read it from Kafka, decode, check, bind,
    write, remember. Without an engine, and without what neighbours say of an upload."""
    config = bench.config
    terminals = load_bindings(str(bench.bindings), S3Settings())
    decoder = Decoder(config.rules.bounds, terminals.known, RegistrySchemas(config.registry))
    core = Core(decoder, terminals.bindings, config.rules)
    source = f"{SCHEME}{config.kafka.bootstrap}"
    job = BackfillSpec(source, "", str(folder), "", kafka=config.kafka)
    spans = spans_between(config.kafka, [kind.topic], None, None)
    blocks = list_blocks(config.kafka, spans, lambda *place: None).objects
    began, before = time.monotonic(), time.process_time()
    rows = sum(write_block(job, block, NO_OVERRIDES, core).rows for block in blocks)
    spent = time.process_time() - before
    size = sum(p.stat().st_size for p in folder.rglob("*.parquet"))
    return Result(rows, time.monotonic() - began, 0.0, spent, size)


WAYS = {"ours": ours, "writing": writing, "sql": flink_sql, "naive": naive}
NAMES = {
    "ours": "odograph submit sink lake",
    "writing": "odograph, writing blocks alone",
    "sql": "Flink SQL, filesystem and Parquet",
    "naive": "a message a time",
}


def _columns(kind: Kind, avro: dict[str, Any]) -> tuple[dict[str, str], list[str], str]:
    """Columns of the SQL table, what is selected into them, and from where."""
    envelope = [f for f in avro["fields"] if f["name"] not in LEFT_OUT]
    columns = {f["name"]: sql.sql_type(f["type"]) for f in envelope}
    chosen = list(columns)
    if kind.samples == 1:
        return columns, chosen, "device"
    (samples,) = [f for f in avro["fields"] if f["name"] == "samples"]
    inner = samples["type"]["items"]["fields"]
    columns |= {f["name"]: sql.sql_type(f["type"]) for f in inner}
    chosen += [f"s.{f['name']}" for f in inner]
    return columns, chosen, "device CROSS JOIN UNNEST(samples) AS s"


def _jars() -> list[Path]:
    place = kept(
        default_cache(),
        "bench-sql-parquet",
        lambda folder: maven_jars(folder, HERE / "jars" / "pom.xml", HERE / "jars.sha256"),
    )
    return sorted(place.glob("*.jar"))


def _total(bench: contenders.Bench, kind: Kind) -> int:
    return bench.totals[kind.message_type] * kind.samples


def measured(bench: contenders.Bench, who: str, kind: Kind, data: Path) -> dict[str, Any]:
    """A contender on one kind of uploads, or why it did not come to an end."""
    folder = data / f"{who}-{kind.message_type}"
    folder.mkdir(mode=0o777)
    try:
        return {"who": who, "kind": kind.name, **vars(WAYS[who](bench, kind, folder))}
    except DependencyFailed as error:
        return {"who": who, "kind": kind.name, "failure": str(error)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def table(results: list[dict[str, Any]]) -> Table:
    """The results, each beside what ours comes to."""
    shown = Table(title=f"Lake, {datetime.now():%Y-%m-%d}")
    for name in ("uploads", "contender", "rows", "rows/s", "rows/CPU s", "JVM s", "Python s", "MB"):
        shown.add_column(name, justify="left" if name in ("uploads", "contender") else "right")
    for one in results:
        words = [one["kind"], NAMES[one["who"]]]
        if "failure" in one:
            shown.add_row(*words, one["failure"][:60])
            continue
        cpu = one["jvm_s"] + one["python_s"]
        figures = (one["rows"], one["rows"] / one["seconds"], one["rows"] / cpu)
        words += [f"{figure:,.0f}" for figure in figures]
        words += [f"{one['jvm_s']:.1f}", f"{one['python_s']:.1f}", f"{one['size'] / 1e6:.1f}"]
        shown.add_row(*words)
    return shown


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.sinks.lake", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.5, help="of the number of uploads")
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    options = parser.parse_args()
    data = Path(tempfile.mkdtemp(prefix="odograph-bench-lake-"))
    cache = default_cache()
    try:
        ports = free_ports(live.SERVERS)
        servers = up(data, cache, Choice(ports=ports, memory=live.MEMORY, options=live.OPTIONS))
        given = argparse.Namespace(
            scale=options.scale, kinds=options.kinds, only=[], settle=0.0, span=0.0
        )
        bench = live.prepared(data, servers, given)
        bench = replace(bench, config=_often(bench))
        results = []
        for kind in options.kinds:
            for who in options.only:
                results.append(measured(bench, who, KINDS[kind], data))
                print(json.dumps(results[-1]), flush=True)
    finally:
        down(data, cache, wipe=True)
        shutil.rmtree(data, ignore_errors=True)
    Console(width=120).print(table(results))
    return 0


def _often(bench: contenders.Bench) -> Any:
    """Checkpoints every ten seconds, for Flink SQL's files appear with them."""
    flink = bench.config.flink.model_copy(update={"checkpoint_interval_s": 10.0})
    return bench.config.model_copy(update={"flink": flink})


if __name__ == "__main__":
    sys.exit(main())
