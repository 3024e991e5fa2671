"""Starts each contender on the cluster, measures it for a while, and ends it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.live_jobs import sql
from bench.live_jobs.rows import without_logical_types
from bench.live_jobs.uploads import Kind
from bench.live_jobs.watch import Cost, Pace, Point, Source, busy, follow, hot, pace
from connectors.errors import DependencyFailed
from connectors.schema_registry.lookup import ids
from runners.artefacts.fetch import default_cache, kept, maven_jars
from runners.config import Config, StreamConfig
from runners.flink.client import client, end_of_output
from runners.flink.environment import flink_python
from runners.flink.live_job import LiveJob
from runners.flink.rest import Cluster
from runners.flink.submit import submit
from runners.stack.servers.flink import Flink
from schemas import load

HERE = Path(__file__).parent
STREAM = StreamConfig()
SUBMIT_S = 180
END_S = 60
PRODUCER = {
    "linger.ms": "20",
    "batch.size": "262144",
    "compression.type": "lz4",
    "transaction.timeout.ms": "900000",
}


@dataclass(frozen=True)
class Bench:
    """Where contenders run, what they read (`totals` uploads of each kind), and for how long they
    settle and are measured."""

    config: Config
    flink: Flink
    bindings: Path
    totals: dict[str, int]
    settle_s: float
    span_s: float
    patience_s: float = 90
    quix: Path | None = None

    @property
    def cluster(self) -> Cluster:
        """Flink's REST interface."""
        return Cluster(self.config.flink.url)


def jars() -> list[Path]:
    """The connectors of Flink SQL, fetched once, and PyFlink's own: naming any jar leaves that
    one out."""
    place = kept(
        default_cache(),
        "bench-sql-connectors",
        lambda folder: maven_jars(folder, HERE / "jars" / "pom.xml", HERE / "jars.sha256"),
    )
    python = flink_python().parent.parent / "lib"
    return sorted([*place.glob("*.jar"), *python.glob("*/site-packages/pyflink/opt/flink-python*")])


def ours(bench: Bench, kind: Kind, work: str, parallelism: int) -> Pace:
    """`odograph submit`: a job of ours."""
    plan = LiveJob(
        job=work,
        config=bench.config,
        python=str(flink_python()),
        start_at="earliest",
        parallelism=parallelism,
        bindings=str(bench.bindings),
    )
    job = submit(plan, bench.cluster, None)
    try:
        result = _on_flink(bench, kind, job)
        return replace(result, hot=hot(bench.cluster, job)) if parallelism == 1 else result
    finally:
        end(bench.cluster, job)


def heap(bench: Bench, kind: Kind, work: str, parallelism: int) -> Pace:
    """Ours with its state on the heap, where the contenders have theirs."""
    options = bench.config.flink.options | {"state.backend.type": "hashmap"}
    flink = bench.config.flink.model_copy(update={"options": options})
    config = bench.config.model_copy(update={"flink": flink})
    return ours(replace(bench, config=config), kind, work, parallelism)


def pure_sql(bench: Bench, kind: Kind, work: str, parallelism: int) -> Pace:
    """One SQL job; both is one job whose inserts share the source and the join."""
    wanted = ("convert", "aggregate") if work == "both" else (work,)
    options = _options(bench, f"bench-sql-{work}", parallelism)
    return _sql(bench, kind, sql.statements(kind, bench.config, wanted), options)


def sql_once(bench: Bench, kind: Kind, work: str, parallelism: int) -> Pace:
    """The same, remembering every upload for as long as ours does, where ours does."""
    options = _options(bench, f"bench-once-{work}", parallelism) | {
        "table.exec.state.ttl": f"{STREAM.lateness_hours + STREAM.outage_hours:g} h",
        "state.backend.type": "rocksdb",
        "execution.checkpointing.incremental": "true",
    }
    return _sql(bench, kind, sql.statements(kind, bench.config, (work,), once=True), options)


def _sql(
    bench: Bench, kind: Kind, statements: tuple[list[str], list[str]], options: dict[str, str]
) -> Pace:
    tables, inserts = statements
    plan = {"how": "sql", "tables": tables, "inserts": inserts, "options": options}
    with _submitted(bench, plan) as job:
        return _on_flink(bench, kind, job)


def rows(bench: Bench, kind: Kind, work: str, parallelism: int) -> Pace:
    """PyFlink, a row at a time."""
    tables, _ = sql.statements(kind, bench.config, ("aggregate",))
    plan = _plan(bench, kind, work) | {
        "how": "rows",
        "out": f"rows-vehicle-{kind.message_type}",
        "tables": [table for table in tables if table.startswith("CREATE TABLE minutes")],
        "producer": PRODUCER,
        "options": _options(bench, f"bench-rows-{work}", parallelism),
    }
    with _submitted(bench, plan) as job:
        return _on_flink(bench, kind, job)


def quix(bench: Bench, kind: Kind, work: str, processes: int) -> Pace:
    """Quix Streams, one process a core."""
    if bench.quix is None:
        raise DependencyFailed("no Python with Quix Streams: name it with --quix-python")
    group = f"bench-quix-{time.time_ns()}"
    plan = _plan(bench, kind, work) | {"out": f"quix-{work}-{kind.message_type}", "group": group}
    with tempfile.TemporaryDirectory(prefix="odograph-bench-") as folder, ExitStack() as running:
        place = Path(folder) / "plan.json"
        place.write_text(json.dumps(plan))
        logs = [Path(folder) / f"{number}.log" for number in range(processes)]
        for number, log in enumerate(logs):
            output = running.enter_context(log.open("w"))
            command = [
                str(bench.quix),
                str(HERE / "quix_main.py"),
                str(place),
                f"{folder}/{number}",
            ]
            child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            running.callback(child.wait, 30)
            running.callback(child.terminate)

        def look() -> Point:
            said = [_last(log) for log in logs]
            return Point(
                max(one[0] for one in said) or time.monotonic(),
                sum(one[1] for one in said),
                0.0,
                sum(one[2] for one in said),
            )

        total = bench.totals[kind.message_type]
        points = follow(look, total, bench.settle_s, bench.span_s, bench.patience_s)
        try:
            return pace(points)
        except DependencyFailed as error:
            raise DependencyFailed(f"{error}; it said: {logs[0].read_text()[-600:]}") from None


CONTENDERS: dict[str, Callable[[Bench, Kind, str, int], Pace]] = {
    "ours": ours,
    "heap": heap,
    "sql": pure_sql,
    "once": sql_once,
    "rows": rows,
    "quix": quix,
}


def _last(log: Path) -> tuple[float, float, float]:
    """The last whole line that is three numbers: moment, taken, processor seconds."""
    for line in reversed(log.read_text().split("\n")[:-1]):
        parts = line.split()
        try:
            moment, taken, spent = map(float, parts)
            return moment, taken, spent
        except ValueError:
            continue
    return 0.0, 0.0, 0.0


def _plan(bench: Bench, kind: Kind, work: str) -> dict[str, Any]:
    topic = f"vehicle-{kind.message_type}"
    return {
        "brokers": bench.config.kafka.bootstrap,
        "topic": kind.topic,
        "work": work,
        "samples": kind.samples,
        "bindings": str(bench.bindings),
        "reader": without_logical_types(load(f"message_{kind.message_type}").avro),
        "writer": without_logical_types(load(f"vehicle_{kind.message_type}").avro),
        "writer_id": ids(bench.config.registry, [topic])[topic],
    }


def _options(bench: Bench, name: str, parallelism: int) -> dict[str, str]:
    return {
        "pipeline.name": name,
        "pipeline.object-reuse": "true",
        "pipeline.jars": ";".join(jar.as_uri() for jar in jars()),
        "parallelism.default": str(parallelism),
        "python.executable": str(flink_python()),
        "table.local-time-zone": "UTC",
        "execution.checkpointing.interval": f"{bench.config.flink.checkpoint_interval_s:g}s",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.dir": f"{bench.config.flink.checkpoints}/{name}",
        "state.backend.type": "hashmap",
    }


@contextmanager
def _submitted(bench: Bench, plan: dict[str, Any]) -> Iterator[str]:
    with client(bench.config.flink.url) as flink:
        place = flink.folder / "plan.json"
        place.write_text(json.dumps(plan))
        parallelism = plan["options"]["parallelism.default"]
        command = flink.command(
            *("-d", "-p", parallelism, "-pyexec", str(flink_python())),
            *("-pyfs", str(HERE / "rows.py"), "-py", str(HERE / "flink_main.py"), str(place)),
        )
        done = subprocess.run(
            command, env=flink.environment, capture_output=True, text=True, timeout=SUBMIT_S
        )
        said = done.stdout + done.stderr
    found = re.search(r"JobID (\w{32})", said)
    if found is None:
        raise DependencyFailed(f"Flink did not take it:\n{end_of_output(said.splitlines(), 30)}")
    try:
        yield found[1]
    finally:
        end(bench.cluster, found[1])


def end(cluster: Cluster, job_id: str) -> None:
    """Cancel a job, if it is alive."""
    for job in cluster.jobs():
        if job.id == job_id and job.alive:
            cluster.end(job, END_S)


def _on_flink(bench: Bench, kind: Kind, job: str) -> Pace:
    cost = Cost(bench.flink)
    source = Source(bench.cluster, job)

    def look() -> Point:
        return Point(time.monotonic(), source.taken(), *cost.now())

    total = bench.totals[kind.message_type]
    points = follow(look, total, bench.settle_s, bench.span_s, bench.patience_s)
    return replace(pace(points), busy=busy(bench.cluster, job))


def quix_python(folder: Path) -> Path:
    """An environment with Quix Streams, made once."""

    def make(place: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        needs = ["-r", str(HERE / "requirements.txt")]
        subprocess.run([place / "bin" / "python", "-m", "pip", "install", "-q", *needs], check=True)

    return kept(folder, "bench-quix", make) / "bin" / "python"
