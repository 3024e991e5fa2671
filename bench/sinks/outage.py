"""Stores that are away while uploads keep coming: what waits, what memory does, how fast it drains.

`python -m bench.sinks.outage archive lake …` starts the servers, a sink a store, and a steady feed
of single reports; kills all their servers at once, starts them again after `--minutes`, and
follows the sinks until they keep up again or `--patience` is over.
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

from bench.live_jobs import __main__ as live
from bench.live_jobs.contenders import Bench, end
from bench.live_jobs.watch import Cost
from connectors.errors import DependencyFailed
from connectors.kafka.client import end_offsets
from connectors.kafka.lag import committed
from pipelines.live.spec import LiveJobSpec
from runners.artefacts.fetch import default_cache
from runners.config import load_config
from runners.flink.environment import flink_python
from runners.flink.live_job import LiveJob
from runners.flink.submit import submit
from runners.stack.catalogue import Choice, free_ports
from runners.stack.stack import down, up

STORES = {
    "archive": "s3",
    "lake": "s3",
    "bigquery": "bigquery",
    "elasticsearch": "elasticsearch",
    "state": "postgres",
}
"""The server each sink writes to."""
ALWAYS = ("kafka", "registry", "postgres", "s3", "flink")
SETTLE_S, EVERY_S = 60.0, 5.0
KEEPS_UP_S = 30.0
"""A sink keeps up when it lags by no more than comes in so long, some checkpoints."""


@dataclass(frozen=True)
class Moment:
    """Seconds since the feed began; by sink the records that it has committed and that it has not
    yet; resident MiB of JVM and Python, of all sinks together."""

    second: float
    done: dict[str, int]
    lag: dict[str, int]
    jvm_mb: int
    python_mb: int


@dataclass
class Watch:
    """Looks at sinks every few seconds, and prints what it sees once a minute."""

    sinks: dict[str, LiveJobSpec]
    cost: Cost
    began: float = field(default_factory=time.monotonic)
    seen: list[Moment] = field(default_factory=list)

    def look(self) -> Moment:
        """How it is now."""
        done, lag = {}, {}
        for name, sink in self.sinks.items():
            ends = end_offsets(sink.kafka, sink.device_topics)
            done[name] = sum(committed(sink.kafka, sink.group, ends).values())
            lag[name] = sum(ends.values()) - done[name]
        one = Moment(time.monotonic() - self.began, done, lag, *self.cost.memory_mb())
        if not self.seen or one.second // 60 > self.seen[-1].second // 60:
            waiting = ", ".join(f"{name} {count:,}" for name, count in lag.items())
            memory = f"JVM {one.jvm_mb:,} MiB, Python {one.python_mb:,} MiB"
            print(f"{one.second:5.0f} s: {waiting} wait; {memory}", flush=True)
        self.seen.append(one)
        return one

    def over(self, seconds: float) -> list[Moment]:
        """Moments of so many seconds."""
        until, first = time.monotonic() + seconds, len(self.seen)
        while time.monotonic() < until:
            self.look()
            time.sleep(EVERY_S)
        return self.seen[first:]

    def until(self, lag: int, patience_s: float) -> list[Moment]:
        """Moments until no more than `lag` records wait for any sink."""
        until, first = time.monotonic() + patience_s, len(self.seen)
        while max(self.look().lag.values()) > lag and time.monotonic() < until:
            time.sleep(EVERY_S)
        return self.seen[first:]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.sinks.outage", description=__doc__)
    parser.add_argument("stores", nargs="+", choices=list(STORES))
    parser.add_argument("--rate", type=int, default=20_000, help="uploads a second")
    parser.add_argument("--minutes", type=float, default=10.0, help="without the stores")
    parser.add_argument("--patience", type=float, default=15.0, help="minutes to catch up")
    parser.add_argument(
        "--feed-ends", action="store_true", help="no uploads once the stores are back"
    )
    return parser.parse_args()


def main() -> int:
    """Measure and print the tables; 1 when a sink did not catch up in time."""
    options = arguments()
    data, cache = Path(tempfile.mkdtemp(prefix="odograph-outage-")), default_cache()
    away = list(dict.fromkeys(STORES[name] for name in options.stores))
    try:
        ports = free_ports({*ALWAYS, *away})
        count = len(options.stores)
        memory = f"{2560 + 512 * count}m"
        servers = up(data, cache, Choice(ports=ports, slots=max(4, count), memory=memory))
        os.environ |= servers["s3"].environment
        settings = data / "odograph.yaml"
        given = yaml.safe_load(settings.read_text())
        given["sinks"] = {name: given["sinks"][name] for name in options.stores}
        settings.write_text(yaml.safe_dump(given))
        scarce = argparse.Namespace(scale=0.01, kinds=["log"], settle=0.0, span=0.0, only=[])
        bench = live.prepared(data, servers, scarce)
        plans = {name: sink_plan(name, settings, bench) for name in options.stores}
        jobs = [submit(plan, bench.cluster, None) for plan in plans.values()]
        watch = Watch({name: plan.live() for name, plan in plans.items()}, Cost(bench.flink))
        words = ["feed", settings, options.rate, 60 * (options.minutes + options.patience) + 600]
        command = [sys.executable, "-m", "bench.live_jobs.latency", *map(str, words)]
        feeder = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            phases = {"before": watch.over(SETTLE_S)}
            for name in away:
                servers[name].kill()
            phases["away"] = watch.over(60 * options.minutes)
            for name in away:
                servers[name].start()
            if options.feed_ends:
                feeder.kill()
            keeps_up = 0 if options.feed_ends else round(options.rate * KEEPS_UP_S)
            phases["back"] = watch.until(keeps_up, 60 * options.patience)
            for name, plan in plans.items():
                restarts = bench.cluster.restarts(bench.cluster.need(plan.job_name))
                back = kept_up(phases["back"], name, keeps_up)
                show(name, {**phases, "back": back}, restarts)
            looked = [sys.executable, "-m", "runners.cli.main", "stores", "--config", str(settings)]
            subprocess.run(looked, check=False)
            return int(max(phases["back"][-1].lag.values()) > keeps_up)
        finally:
            feeder.kill()
            feeder.wait()
            for job in jobs:
                end(bench.cluster, job)
    finally:
        down(data, cache, wipe=True)
        shutil.rmtree(data, ignore_errors=True)


def sink_plan(name: str, settings: Path, bench: Bench) -> LiveJob:
    """The job that writes to this store, all that is on Kafka."""
    return LiveJob(
        job=f"sink-{name}",
        config=load_config(str(settings)),
        python=str(flink_python()),
        start_at="earliest",
        bindings=str(bench.bindings),
    )


def kept_up(seen: list[Moment], sink: str, lag: int) -> list[Moment]:
    """The moments until this sink kept up."""
    after = next((at for at, one in enumerate(seen) if at and one.lag[sink] <= lag), len(seen))
    return seen[: after + 1]


def show(sink: str, phases: dict[str, list[Moment]], restarts: int | None) -> None:
    """Print a row a phase."""
    table = Table(title=f"{sink}, restarts of the job: {restarts}")
    for name in ("", "seconds", "written/s", "most waiting", "waiting", "JVM MiB", "Python MiB"):
        table.add_column(name, justify="right" if name else "left")
    for name, seen in phases.items():
        if len(seen) < 2:
            raise DependencyFailed(f"{name}: {len(seen)} looks tell nothing")
        seconds = seen[-1].second - seen[0].second
        table.add_row(
            name,
            f"{seconds:.0f}",
            f"{(seen[-1].done[sink] - seen[0].done[sink]) / seconds:,.0f}",
            f"{max(one.lag[sink] for one in seen):,}",
            f"{seen[-1].lag[sink]:,}",
            f"{max(one.jvm_mb for one in seen):,}",
            f"{max(one.python_mb for one in seen):,}",
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
