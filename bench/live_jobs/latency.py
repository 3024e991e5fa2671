"""Latency from produce to vehicle topic, checkpoints and memory, under a steady feed.

`python -m bench.live_jobs.latency feed|read …` are the feeder and a reader, each a process of its
own."""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.live_jobs.contenders import Bench, end
from bench.live_jobs.rows import without_logical_types
from bench.live_jobs.uploads import KINDS, encoded, terminals
from bench.live_jobs.watch import Cost
from connectors.kafka.client import client_properties, end_offsets
from connectors.schema_registry.lookup import ids
from runners.config import load_config
from runners.flink.environment import flink_python
from runners.flink.live_job import LiveJob
from runners.flink.rest import Cluster
from runners.flink.submit import submit
from schemas import load

SLOW_S = 40.0
BURST_S = 0.02
LOOKED_AT = 2_000
"""Messages a second whose latency is taken, at most."""
ISOLATION = ("read_uncommitted", "read_committed")
NOTE_S = 10.0
FIRST_SEQ = 10_000_000
TOPIC = "vehicle-log"


def measure(bench: Bench, rates: list[int], seconds: float) -> dict[str, Any]:
    """Both jobs on live uploads: latencies at each rate, checkpoints and memory over all of them.
    The last rate is fed for `seconds`, those before for 40 s at most."""
    with ExitStack() as running:
        jobs = {}
        for name in ("convert", "aggregate"):
            plan = LiveJob(
                job=name,
                config=bench.config,
                python=str(flink_python()),
                start_at="latest",
                bindings=str(bench.bindings),
            )
            jobs[name] = submit(plan, bench.cluster, None)
            running.callback(end, bench.cluster, jobs[name])
        watched = Watched(bench, jobs)
        found: list[dict[str, Any]] = []
        for rate in rates:
            span_s = seconds if rate == rates[-1] else min(SLOW_S, seconds)
            found += phase(bench, rate, span_s, watched)
        return {"rates": found, **watched.figures()}


def phase(bench: Bench, rate: int, seconds: float, watched: Watched) -> list[dict[str, Any]]:
    """Latencies of one rate."""
    settings = str(bench.bindings.parent / "odograph.yaml")
    wait_s = seconds + 2 * bench.config.flink.checkpoint_interval_s
    readers = [_child("read", settings, how, wait_s, rate) for how in ISOLATION]
    feeder = _child("feed", settings, rate, seconds)
    watched.until(feeder)
    sent = json.loads(feeder.communicate()[0])
    found = []
    for how, reader in zip(ISOLATION, readers, strict=True):
        latencies = json.loads(reader.communicate()[0])
        found.append(
            {"rate": f"{rate:,}", "sent": f"{sent['rate']:,.0f}", "read": how, **latencies}
        )
    return found


def _child(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.live_jobs.latency", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class Watched:
    """Memory every ten seconds, and all checkpoints."""

    def __init__(self, bench: Bench, jobs: dict[str, str]) -> None:
        self._cluster: Cluster = bench.cluster
        self._jobs = jobs
        self._cost = Cost(bench.flink)
        self._began = time.monotonic()
        self._memory: list[tuple[str, str, str]] = []
        self._checkpoints: dict[str, dict[int, tuple[float, int]]] = {name: {} for name in jobs}

    def until(self, feeder: subprocess.Popen[str]) -> None:
        """Take notes until the feeder ends."""
        while feeder.poll() is None:
            self._note()
            try:
                feeder.wait(NOTE_S)
            except subprocess.TimeoutExpired:
                continue

    def _note(self) -> None:
        second = f"{time.monotonic() - self._began:.0f}"
        self._memory.append((second, *(f"{mb:,}" for mb in self._cost.memory_mb())))
        for name, job in self._jobs.items():
            for one in self._cluster.ask("GET", f"/jobs/{job}/checkpoints")["history"]:
                if one["status"] == "COMPLETED":
                    known = one["state_size"] / 1e6, one["end_to_end_duration"]
                    self._checkpoints[name][one["id"]] = known

    def figures(self) -> dict[str, Any]:
        """As tables."""
        rows = []
        for name, found in self._checkpoints.items():
            sizes = [found[number][0] for number in sorted(found)]
            times = [found[number][1] for number in found]
            rows.append(
                (
                    name,
                    str(len(sizes)),
                    f"{sizes[0]:.1f}",
                    f"{sizes[-1]:.1f}",
                    f"{statistics.median(times):.0f}",
                    f"{max(times)}",
                )
            )
        every = max(1, len(self._memory) // 8)
        return {"checkpoints": rows, "memory": self._memory[::every]}


def feed(settings: str, rate: int, seconds: float) -> None:
    """Single reports, `rate` a second, each received when it is produced."""
    config, kind = load_config(settings), KINDS["log"]
    schema_id = ids(config.registry, [kind.topic])[kind.topic]
    names = pa.array(terminals(20_000))
    keys = names.cast(pa.binary()).to_pylist()
    own = {"linger.ms": 5, "compression.type": "lz4", "partitioner": "murmur2_random"}
    own |= {"queue.buffering.max.messages": 500_000, "log_level": 2}
    producer = Producer({**client_properties(config.kafka), **own})
    size = round(rate * BURST_S)
    began = time.monotonic()
    sent, first = 0, FIRST_SEQ + time.time_ns() // 1_000_000_000 * 1000
    while sent < rate * seconds:
        start = sent % len(names)
        part = names.slice(start, size)
        seq = first + sent // len(names)
        values = encoded(kind, part, seq, time.time_ns() // 1_000_000, schema_id)
        for key, value in zip(keys[start : start + len(part)], values.to_pylist(), strict=True):
            producer.produce(kind.topic, value, key)
        sent += len(part)
        producer.poll(0)
        time.sleep(max(0.0, began + sent / rate - time.monotonic()))
    producer.flush(60)
    print(json.dumps({"rate": sent / (time.monotonic() - began)}))


def read(settings: str, isolation: str, seconds: float, rate: int) -> None:
    """Latencies of the vehicle messages that become visible, in milliseconds."""
    config = load_config(settings)
    schema = fastavro.parse_schema(without_logical_types(load("vehicle_log").avro))
    own = {"group.id": f"bench-{isolation}", "isolation.level": isolation, "log_level": 2}
    own |= {"enable.auto.commit": False, "fetch.queue.backoff.ms": 10}
    consumer = Consumer({**client_properties(config.kafka), **own})
    ends = end_offsets(config.kafka, [TOPIC], isolation)
    consumer.assign([TopicPartition(*place, offset) for place, offset in ends.items()])
    every = max(1, rate // LOOKED_AT)
    found, seen, deadline = [], 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        messages = consumer.consume(1000, 0.05)
        now = time.time_ns() / 1e6
        for message in messages:
            if message.error() is None:
                seen += 1
                if seen % every == 0:
                    upload = fastavro.schemaless_reader(io.BytesIO(message.value()[5:]), schema)
                    found.append(now - upload["received_time"])
    consumer.close()
    values = np.array(found or [float("nan")])
    p50, p99 = np.percentile(values, [50, 99])
    latencies = {"p50": f"{p50:,.0f}", "p99": f"{p99:,.0f}", "worst": f"{values.max():,.0f}"}
    print(json.dumps({**latencies, "count": f"{seen:,}"}))


if __name__ == "__main__":
    what, place, *rest = sys.argv[1:]
    if what == "feed":
        feed(place, int(rest[0]), float(rest[1]))
    else:
        read(place, rest[0], float(rest[1]), int(rest[2]))
