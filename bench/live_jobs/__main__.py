"""python -m bench.live_jobs: the live jobs against their peers, then latency, checkpoints and
memory."""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from bench import report
from bench.live_jobs import latency, sql, table
from bench.live_jobs.contenders import CONTENDERS, Bench, quix_python
from bench.live_jobs.uploads import KINDS, START_MS, binding_rows, rounds, terminals
from connectors.errors import BadArguments, DependencyFailed
from connectors.kafka.client import client_properties
from connectors.schema_registry.lookup import ids
from runners.artefacts.fetch import default_cache
from runners.config import Config, load_config
from runners.simulation.kafka import feed
from runners.stack.catalogue import Choice, Server, free_ports
from runners.stack.stack import down, up

TERMINALS = {"log": 20_000, "gps": 5_000}
UPLOADS = {"log": 3_000_000, "gps": 700_000}
OPTIONS = {
    "metrics.fetcher.update-interval": "400",
    "rest.flamegraph.enabled": "true",
    "taskmanager.memory.jvm-metaspace.size": "1024m",
}
"""Figures that are fresh, and room for the classes of many jobs one after another."""
MEMORY = "5120m"
SERVERS = ("kafka", "registry", "flink")
ASIDE = ("heap", "once")
"""Contenders that explain a figure."""
WORKS = ("convert", "aggregate", "both")


def wanted(who: str, kind: str, work: str, parallelism: int) -> bool:
    """Whether a measurement tells anything new: of what runs as two programs, both is the sum of
    what each costs; what a row at a time costs hardly changes with parallelism."""
    if who in ASIDE:
        return (kind, work, parallelism) == ("log", "aggregate", 1)
    if work == "both":
        return who == "sql" and parallelism == 1
    return who in ("ours", "sql") or parallelism == 1 or (kind, work) == ("log", "convert")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.live_jobs", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of uploads")
    parser.add_argument("--settle", type=float, default=8.0, help="seconds before measuring")
    parser.add_argument("--span", type=float, default=6.0, help="seconds measured")
    parser.add_argument("--parallelism", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--minutes", type=float, default=12.5, help="no new measurement after them")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds of the fastest feed")
    parser.add_argument("--rates", type=int, nargs="+", default=[2_000, 20_000], help="of feeds")
    parser.add_argument("--date", help="date of the run; with it bench/README.md is rewritten")
    parser.add_argument("--no-warm", dest="warm", action="store_false", help="no run thrown away")
    parser.add_argument("--keep", action="store_true", help="the servers' data and logs")
    noted = Path(tempfile.gettempdir()) / "bench-live.jsonl"
    parser.add_argument("--out", type=Path, default=noted, help="each result as it comes")
    return parser.parse_args()


def main() -> int:
    """Measure, note each result as it comes, print the tables."""
    options = arguments()
    options.out.unlink(missing_ok=True)
    data = Path(tempfile.mkdtemp(prefix="odograph-bench-live-"))
    cache = default_cache()
    try:
        ports = free_ports(SERVERS)
        servers = up(data, cache, Choice(ports=ports, memory=MEMORY, options=OPTIONS))
        bench = prepared(data, servers, options)
        began = time.monotonic()
        wanted_cells = cells(options)
        if options.warm:
            measured(bench, wanted_cells[0])
        for cell in wanted_cells:
            if time.monotonic() - began > options.minutes * 60:
                note(options.out, {**cell, "failure": "no time was left"})
                continue
            note(options.out, measured(bench, cell))
        if options.latency:
            note(options.out, latency.measure(bench, options.rates, options.latency))
    finally:
        down(data, cache, wipe=not options.keep)
        if not options.keep:
            shutil.rmtree(data, ignore_errors=True)
    text = table.tables([[json.loads(line) for line in options.out.read_text().splitlines()]])
    print(text)
    if options.date:
        report.write("live", f"{options.date}; {report.machine()}.\n\n{text}")
    return 0


def cells(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What is measured, the most telling first."""
    every = itertools.product(options.parallelism, options.works, options.kinds, options.only)
    found = [
        {"who": who, "kind": kind, "work": work, "parallelism": parallelism}
        for parallelism, work, kind, who in every
        if wanted(who, kind, work, parallelism)
    ]
    return sorted(found, key=lambda cell: (cell["parallelism"], cell["who"] in ASIDE))


def measured(bench: Bench, cell: dict) -> dict:
    """The cell with its pace, or with why there is none."""
    began = time.monotonic()
    if bench.flink.task_manager(1).running() is None:
        bench.flink.start_task_manager(1)
        bench.flink.ready()
    try:
        kind = KINDS[cell["kind"]]
        one = CONTENDERS[cell["who"]](bench, kind, cell["work"], cell["parallelism"])
        result = {**vars(one), "samples": kind.samples}
    except (DependencyFailed, BadArguments, psutil.Error, subprocess.SubprocessError) as error:
        result = {"failure": str(error)}
        for job in bench.cluster.jobs():
            if job.alive:
                bench.cluster.cancel(job)
    return {**cell, **result, "took_s": time.monotonic() - began}


def note(out: Path, result: dict) -> None:
    with out.open("a") as file:
        file.write(json.dumps(result) + "\n")
    print(table.line(result), flush=True)


def prepared(data: Path, servers: dict[str, Server], options: argparse.Namespace) -> Bench:
    """Topics, schemas, bindings and uploads are there."""
    settings = data / "odograph.yaml"
    config = load_config(str(settings))
    for words in (["topics", "apply"], ["schemas", "register"]):
        command = [sys.executable, "-m", "runners.cli.main", *words, "--config", str(settings)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    bindings = data / "device_binding.csv"
    count = {name: max(1, round(UPLOADS[name] * options.scale / TERMINALS[name])) for name in KINDS}
    names = terminals(max(TERMINALS.values()))
    swap = START_MS + count["log"] * KINDS["log"].every_ms // 2
    make_topics(config)
    write_bindings(names, swap, bindings, config)
    for name in options.kinds:
        kind = KINDS[name]
        schema_id = ids(config.registry, [kind.topic])[kind.topic]
        sent = feed(config.kafka, rounds(kind, names[: TERMINALS[name]], schema_id, 0, count[name]))
        print(f"{sent.records.total():,} {kind.name} sent, {sent.rate:,.0f} a second", flush=True)
    return Bench(
        config=config,
        flink=servers["flink"],
        bindings=bindings,
        totals={name: count[name] * TERMINALS[name] for name in KINDS},
        settle_s=options.settle,
        span_s=options.span,
        quix=quix_python(default_cache()) if "quix" in options.only else None,
    )


def make_topics(config: Config) -> None:
    """Those that contenders write, and their bindings."""
    topics = [sql.BINDINGS_TOPIC]
    for kind in KINDS.values():
        topics += sql.output_topics(kind)
        topics.append(f"rows-vehicle-{kind.message_type}")
        topics += [f"quix-{work}-{kind.message_type}" for work in ("convert", "aggregate")]
    admin = AdminClient(client_properties(config.kafka))
    new = [NewTopic(name, 4, 1, config={"max.message.bytes": "8388608"}) for name in topics]
    for done in admin.create_topics(new).values():
        try:
            done.result()
        except KafkaException as error:
            raise DependencyFailed(f"topics were not made: {error}") from None


def write_bindings(names: list[str], swap_ms: int, file: Path, config: Config) -> None:
    """As a file, and as a topic for Flink SQL."""
    lines = ["device_no,vehicle_id,valid_from,valid_to,binding_version"]
    producer = Producer({**client_properties(config.kafka), "partitioner": "murmur2_random"})
    for device_no, vehicle_id, begin, end, version in binding_rows(names, swap_ms):
        instants = [datetime.fromtimestamp(ms / 1000, UTC).isoformat() for ms in (begin, end)]
        lines.append(f"{device_no},{vehicle_id},{instants[0]},{instants[1]},{version}")
        row = {"vehicle_id": vehicle_id, "valid_from": begin, "valid_to": end}
        row |= {"device_no": device_no, "binding_version": version}
        producer.produce(sql.BINDINGS_TOPIC, json.dumps(row), device_no)
        producer.poll(0)
    file.write_text("\n".join([*lines, ""]))
    if producer.flush(60):
        raise DependencyFailed("Kafka did not take the bindings")


if __name__ == "__main__":
    sys.exit(main())
