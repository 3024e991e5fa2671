"""A store that is away while uploads keep coming: what waits, what memory does, how fast it drains.

`python -m bench.sinks.outage archive|elasticsearch|state` starts the servers, a sink and a steady
feed of single reports; kills the store, starts it again after `--minutes`, and follows the sink
until it keeps up again or `--patience` is over.
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

STORES = {"archive": "s3", "elasticsearch": "elasticsearch", "state": "postgres"}
"""The server each sink writes to."""
SPANS = {"kafka": 2, "registry": 2, "postgres": 1, "flink": 3}
SETTLE_S, EVERY_S = 60.0, 5.0
KEEPS_UP_S = 30.0
"""A sink keeps up when it lags by no more than comes in so long, some checkpoints."""


@dataclass(frozen=True)
class Moment:
    """Seconds since the feed began; records that the sink has committed and that it has not yet;
    resident MiB of JVM and Python."""

    second: float
    done: int
    lag: int
    jvm_mb: int
    python_mb: int


@dataclass
class Watch:
    """Looks at a sink every few seconds, and prints what it sees once a minute."""

    live: Live
    cost: Cost
    began: float = field(default_factory=time.monotonic)
    seen: list[Moment] = field(default_factory=list)

    def look(self) -> Moment:
        """How it is now."""
        ends = end_offsets(self.live.kafka, self.live.device_topics)
        done = committed(self.live.kafka, self.live.group, ends)
        total = sum(done.values())
        second = time.monotonic() - self.began
        one = Moment(second, total, sum(ends.values()) - total, *self.cost.memory_mb())
        if not self.seen or one.second // 60 > self.seen[-1].second // 60:
            print(f"{one.second:5.0f} s: {one.lag:>12,} wait", flush=True)
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
        """Moments until no more than `lag` records wait."""
        until, first = time.monotonic() + patience_s, len(self.seen)
        while self.look().lag > lag and time.monotonic() < until:
            time.sleep(EVERY_S)
        return self.seen[first:]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.sinks.outage", description=__doc__)
    parser.add_argument("store", choices=list(STORES))
    parser.add_argument("--rate", type=int, default=20_000, help="uploads a second")
    parser.add_argument("--minutes", type=float, default=10.0, help="without the store")
    parser.add_argument("--patience", type=float, default=15.0, help="minutes to catch up")
    return parser.parse_args()


def main() -> int:
    """Measure and print the tables; 1 when the sink did not catch up in time."""
    options = arguments()
    data, cache = Path(tempfile.mkdtemp(prefix="odograph-outage-")), default_cache()
    wanted = {**SPANS, "s3": 1} | ({"elasticsearch": 2} if options.store == "elasticsearch" else {})
    try:
        ports = {name: free_port(span) for name, span in wanted.items()}
        servers = up(data, cache, Choice(ports=ports, memory="3072m"))
        os.environ |= servers["s3"].environment
        settings = data / "odograph.yaml"
        given = yaml.safe_load(settings.read_text())
        given["sinks"] = {options.store: given["sinks"][options.store]}
        settings.write_text(yaml.safe_dump(given))
        scarce = argparse.Namespace(scale=0.01, kinds=["log"], settle=0.0, span=0.0, only=[])
        bench = live.prepared(data, servers, scarce)
        plan = Plan(
            job=f"sink-{options.store}",
            config=load_config(str(settings)),
            python=str(flink_python()),
            start_at="earliest",
            bindings=str(bench.bindings),
        )
        job = submit(plan, bench.cluster, None)
        watch = Watch(plan.live(), Cost(bench.flink))
        words = ["feed", settings, options.rate, 60 * (options.minutes + options.patience) + 600]
        command = [sys.executable, "-m", "bench.live.latency", *map(str, words)]
        feeder = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            phases = {"before": watch.over(SETTLE_S)}
            store = servers[STORES[options.store]]
            for process in store.processes:
                process.kill()
            phases["away"] = watch.over(60 * options.minutes)
            store.start()
            keeps_up = round(options.rate * KEEPS_UP_S)
            phases["back"] = watch.until(keeps_up, 60 * options.patience)
            show(phases, bench.cluster.restarts(bench.cluster.need(plan.job_name)))
            return int(phases["back"][-1].lag > keeps_up)
        finally:
            feeder.kill()
            feeder.wait()
            end(bench.cluster, job)
    finally:
        down(data, cache, wipe=True)
        shutil.rmtree(data, ignore_errors=True)


def show(phases: dict[str, list[Moment]], restarts: int | None) -> None:
    """Print a row a phase."""
    table = Table(title=f"restarts of the job: {restarts}")
    for name in ("", "seconds", "written/s", "most waiting", "JVM MiB", "Python MiB"):
        table.add_column(name, justify="right" if name else "left")
    for name, seen in phases.items():
        if len(seen) < 2:
            raise DependencyFailed(f"{name}: {len(seen)} looks tell nothing")
        seconds = seen[-1].second - seen[0].second
        table.add_row(
            name,
            f"{seconds:.0f}",
            f"{(seen[-1].done - seen[0].done) / seconds:,.0f}",
            f"{max(one.lag for one in seen):,}",
            f"{max(one.jvm_mb for one in seen):,}",
            f"{max(one.python_mb for one in seen):,}",
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
