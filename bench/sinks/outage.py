"""Stores that are away while uploads keep coming: what waits, what memory does, how fast it drains.

`python -m bench.sinks.outage archive lake …` starts the servers, a sink for each of these stores
and a steady feed of single reports; kills the servers of the stores, starts them again after
`--minutes`, and follows the sinks until all keep up again or `--patience` is over.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from bench.live import __main__ as live
from bench.live.contenders import end
from bench.live.watch import Cost
from connectors.kafka import end_offsets
from connectors.kafka_lag import committed
from connectors.settings import DependencyFailed
from pipelines.live import Live
from runners.config import load_config
from runners.flink.plan import Plan
from runners.flink.submission import submit
from runners.stack.artefacts import default_cache
from runners.stack.flink import flink_python
from runners.stack.processes import free_port
from runners.stack.servers import Choice
from runners.stack.stack import down, up

STORES = {
    "archive": "s3",
    "lake": "s3",
    "bigquery": "bigquery",
    "elasticsearch": "elasticsearch",
    "state": "postgres",
}
"""The server each sink writes to."""
SPANS = {"kafka": 2, "registry": 2, "postgres": 1, "flink": 3, "s3": 1}
MORE_SPANS = {"bigquery": 2, "elasticsearch": 2}
SETTLE_S, EVERY_S = 60.0, 5.0
KEEPS_UP_S = 30.0
"""A sink keeps up when it lags by no more than comes in so long, some checkpoints."""


@dataclass(frozen=True)
class Moment:
    """Seconds since the feed began; records that came, and those that each sink has committed;
    resident MiB of JVM and Python, of all sinks together."""

    second: float
    came: int
    done: dict[str, int]
    jvm_mb: int
    python_mb: int

    @property
    def lags(self) -> dict[str, int]:
        """Records that each sink has not committed yet."""
        return {name: self.came - done for name, done in self.done.items()}


@dataclass
class Watch:
    """Looks at sinks every few seconds, and prints what it sees once a minute."""

    sinks: dict[str, Live]
    cost: Cost
    began: float = field(default_factory=time.monotonic)
    seen: list[Moment] = field(default_factory=list)

    def look(self) -> Moment:
        """How it is now."""
        one = next(iter(self.sinks.values()))
        ends = end_offsets(one.kafka, one.device_topics)
        done = {
            name: sum(committed(one.kafka, live.group, ends).values())
            for name, live in self.sinks.items()
        }
        second, came = time.monotonic() - self.began, sum(ends.values())
        now = Moment(second, came, done, *self.cost.memory_mb())
        if not self.seen or second // 60 > self.seen[-1].second // 60:
            waits = ", ".join(f"{name} {lag:,}" for name, lag in now.lags.items())
            print(f"{second:5.0f} s: {waits} wait; {now.jvm_mb} + {now.python_mb} MiB", flush=True)
        self.seen.append(now)
        return now

    def over(self, seconds: float) -> list[Moment]:
        """Moments of so many seconds."""
        until, first = time.monotonic() + seconds, len(self.seen)
        while time.monotonic() < until:
            self.look()
            time.sleep(EVERY_S)
        return self.seen[first:]

    def until(self, lag: int, patience_s: float) -> list[Moment]:
        """Moments until no sink has more than `lag` records waiting."""
        until, first = time.monotonic() + patience_s, len(self.seen)
        while max(self.look().lags.values()) > lag and time.monotonic() < until:
            time.sleep(EVERY_S)
        return self.seen[first:]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.sinks.outage", description=__doc__)
    parser.add_argument("stores", nargs="+", choices=list(STORES))
    parser.add_argument("--rate", type=int, default=20_000, help="uploads a second")
    parser.add_argument("--minutes", type=float, default=10.0, help="without the stores")
    parser.add_argument("--patience", type=float, default=15.0, help="minutes to catch up")
    return parser.parse_args()


def main() -> int:
    """Measure and print the tables; 1 when a sink did not catch up in time."""
    options = arguments()
    data, cache = Path(tempfile.mkdtemp(prefix="odograph-outage-")), default_cache()
    away = {STORES[name] for name in options.stores}
    wanted = SPANS | {name: span for name, span in MORE_SPANS.items() if name in away}
    try:
        ports = {name: free_port(span) for name, span in wanted.items()}
        slots = max(4, len(options.stores))
        memory = f"{2560 + 512 * len(options.stores)}m"
        servers = up(data, cache, Choice(ports=ports, slots=slots, memory=memory))
        os.environ |= servers["s3"].environment
        settings = data / "odograph.yaml"
        given = yaml.safe_load(settings.read_text())
        given["sinks"] = {name: given["sinks"][name] for name in options.stores}
        settings.write_text(yaml.safe_dump(given))
        scarce = argparse.Namespace(scale=0.01, kinds=["log"], settle=0.0, span=0.0, only=[])
        bench = live.prepared(data, servers, scarce)
        plans = [
            Plan(
                job=f"sink-{name}",
                config=load_config(str(settings)),
                python=str(flink_python()),
                start_at="earliest",
                bindings=str(bench.bindings),
            )
            for name in options.stores
        ]
        jobs = [submit(plan, bench.cluster, None) for plan in plans]
        sinks = {name: plan.live() for name, plan in zip(options.stores, plans, strict=True)}
        watch = Watch(sinks, Cost(bench.flink))
        words = ["feed", settings, options.rate, 60 * (options.minutes + options.patience) + 600]
        command = [sys.executable, "-m", "bench.live.latency", *map(str, words)]
        feeder = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            phases = {"before": watch.over(SETTLE_S)}
            for name in away:
                for process in servers[name].processes:
                    process.kill()
            phases["away"] = watch.over(60 * options.minutes)
            for name in away:
                servers[name].start()
            keeps_up = round(options.rate * KEEPS_UP_S)
            phases["back"] = watch.until(keeps_up, 60 * options.patience)
            restarts = {
                name: bench.cluster.restarts(bench.cluster.need(plan.job_name))
                for name, plan in zip(options.stores, plans, strict=True)
            }
            show(phases, restarts)
            return int(max(phases["back"][-1].lags.values()) > keeps_up)
        finally:
            feeder.kill()
            feeder.wait()
            for job in jobs:
                end(bench.cluster, job)
    finally:
        down(data, cache, wipe=True)
        shutil.rmtree(data, ignore_errors=True)


def show(phases: dict[str, list[Moment]], restarts: dict[str, int | None]) -> None:
    """Print a row a phase and sink, and a row a phase of what all sinks need."""
    rows = Table()
    for name in ("", "sink", "seconds", "written/s", "most waiting", "restarts so far"):
        rows.add_column(name, justify="right" if name not in ("", "sink") else "left")
    memory = Table()
    for name in ("", "came/s", "JVM MiB", "Python MiB"):
        memory.add_column(name, justify="right" if name else "left")
    for phase, seen in phases.items():
        if len(seen) < 2:
            raise DependencyFailed(f"{phase}: {len(seen)} looks tell nothing")
        first, last = seen[0], seen[-1]
        seconds = last.second - first.second
        for name, count in restarts.items():
            rows.add_row(
                phase,
                name,
                f"{seconds:.0f}",
                f"{(last.done[name] - first.done[name]) / seconds:,.0f}",
                f"{max(one.lags[name] for one in seen):,}",
                f"{count}" if phase == "back" else "",
            )
        memory.add_row(
            phase,
            f"{(last.came - first.came) / seconds:,.0f}",
            f"{max(one.jvm_mb for one in seen):,}",
            f"{max(one.python_mb for one in seen):,}",
        )
    console = Console(width=100)
    console.print(rows)
    console.print(memory)


if __name__ == "__main__":
    sys.exit(main())
