"""`odograph status`: every live job's state, how far it is behind, and since when."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from connectors.kafka import Partition
from connectors.kafka_lag import Waiting, committed, spans, waiting
from runners.config import Config, load_config
from runners.flink.cluster import Cluster, Job
from runners.flink.plan import JOBS, SINK, Plan

COLUMNS = ("job", "state", "lag", "waits since", "last checkpoint", "restarts")
NOT_RUNNING = 1


@dataclass(frozen=True)
class Status:
    """A job as it is. `state` is the cluster's word, `absent` where it knows of none; `behind` is
    None for a job that never ran."""

    job: str
    state: str
    behind: Waiting | None
    checkpoint_ms: int | None
    restarts: int | None

    def line(self, now_ms: int) -> list[str]:
        """One row of the table."""
        behind = self.behind
        return [
            self.job,
            self.state,
            "never ran" if behind is None else f"{behind.offsets:,}",
            "" if behind is None or behind.since_ms is None else _age(now_ms - behind.since_ms),
            "none" if self.checkpoint_ms is None else _moment(self.checkpoint_ms),
            "" if self.restarts is None else str(self.restarts),
        ]


def _moment(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%H:%M:%S")


def _age(ms: int) -> str:
    seconds = max(ms, 0) // 1000
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


@click.command()
@click.option(
    "--config", "config_path", required=True, type=click.Path(dir_okay=False), help="YAML settings."
)
@click.option("--flink", "url", help="URL of the cluster's REST interface [flink.url].")
def status(config_path: str, url: str | None) -> None:
    """Show the live jobs: convert, aggregate, and a sink for each store that is set.

    lag: offsets on the topics a job reads that it has not committed. A job commits with each
    checkpoint, after its store has the rows, so a job that keeps up still lags by what came since
    its last checkpoint.

    waits since: the age of the oldest record not committed, by its timestamp on the topic; empty
    when nothing waits. All that came before it is in the store, but for archive and lake, which
    hold a block back until it is full or its time is over (rotate_schedule_interval_ms).

    Exit codes: 0, or 1 when a store is set and its sink is not RUNNING; 3 when the cluster or the
    brokers do not answer.
    """
    config = load_config(config_path)
    cluster = Cluster(url or config.flink.url)
    found = statuses(config, cluster)
    table = Table(title=f"Jobs on {cluster.url}")
    for name in COLUMNS:
        table.add_column(name, justify="right" if name == "lag" else "left")
    now_ms = time.time_ns() // 1_000_000
    for one in found:
        table.add_row(*one.line(now_ms))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    down = [one.job for one in found if one.job.startswith(SINK) and one.state != "RUNNING"]
    if down:
        click.echo(f"not running: {', '.join(down)}", err=True)
        sys.exit(NOT_RUNNING)


def statuses(config: Config, cluster: Cluster) -> list[Status]:
    """Of every job that is to run: all but sinks that are not set. Raises DependencyFailed."""
    wanted = config.sinks.configured()
    known = cluster.jobs()
    plans = [
        Plan(job=name, config=config, python=sys.executable)
        for name in JOBS
        if not name.startswith(SINK) or name.removeprefix(SINK) in wanted
    ]
    held = spans(config.kafka, sorted({topic for plan in plans for topic in plan.reads}))
    return [_status(plan, cluster, known, held) for plan in plans]


def _status(
    plan: Plan, cluster: Cluster, known: list[Job], held: Mapping[Partition, range]
) -> Status:
    ours = [job for job in known if job.name == plan.job_name]
    job = next((one for one in ours if one.alive), ours[0] if ours else None)
    live = plan.live()
    read = {place: span for place, span in held.items() if place[0] in plan.reads}
    done = committed(live.kafka, live.group, read)
    behind = waiting(live.kafka, done, read) if done or job else None
    if job is None:
        return Status(plan.job, "absent", behind, None, None)
    latest = cluster.checkpoints(job)["latest"].get("completed")
    acked = latest and latest["latest_ack_timestamp"]
    return Status(plan.job, job.state, behind, acked, cluster.restarts(job))
