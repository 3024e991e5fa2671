"""`odograph status`: every live job's state, how far it is behind, and since when."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from connectors.kafka.client import Partition
from connectors.kafka.lag import Waiting, committed, spans, waiting
from runners.config import Config, load_config
from runners.flink.live_job import JOBS, SINK, LiveJob
from runners.flink.rest import Cluster, Job

COLUMNS = ("job", "state", "lag", "waits since", "last checkpoint", "restarts")
TROUBLE = 1


@dataclass(frozen=True)
class Status:
    """A job as it is. `state` is what the cluster calls it, `absent` where it knows of no such job;
    `behind` is None for a job that never ran."""

    job: str
    state: str
    behind: Waiting | None
    checkpoint_ms: int | None
    restarts: int | None

    @property
    def down(self) -> bool:
        """It ran, or its store is set, and it does not run now."""
        expected = self.behind is not None or self.job.startswith(SINK)
        return expected and self.state != "RUNNING"

    def waits_s(self, now_ms: int) -> float | None:
        """The age of the oldest record it has not committed; None where nothing waits."""
        since = None if self.behind is None else self.behind.since_ms
        return None if since is None else max(0, now_ms - since) / 1000

    def as_json(self, now_ms: int) -> dict[str, object]:
        """For programs: `lag` is null for a job that never ran."""
        return {
            "job": self.job,
            "state": self.state,
            "lag": self.behind and self.behind.offsets,
            "waits_s": self.waits_s(now_ms),
            "last_checkpoint_ms": self.checkpoint_ms,
            "restarts": self.restarts,
        }

    def as_row(self, now_ms: int) -> list[str]:
        """One row of the table."""
        behind, waits_s = self.behind, self.waits_s(now_ms)
        return [
            self.job,
            self.state,
            "never ran" if behind is None else f"{behind.offsets:,}",
            "" if waits_s is None else _age(waits_s),
            "none" if self.checkpoint_ms is None else _moment(self.checkpoint_ms),
            "" if self.restarts is None else str(self.restarts),
        ]


def _moment(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%H:%M:%S")


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


@click.command()
@click.option(
    "--config", "config_path", required=True, type=click.Path(dir_okay=False), help="YAML settings."
)
@click.option("--flink", "url", help="URL of the cluster's REST interface [flink.url].")
@click.option(
    "--max-age-s", type=click.FloatRange(min=0), help="Fail where a record has waited for longer."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per job instead of the table."
)
def status(config_path: str, url: str | None, max_age_s: float | None, as_json: bool) -> None:
    """Show the live jobs: convert, aggregate, and a sink for each store that is set.

    lag: offsets on the topics a job reads that it has not committed. A job commits with each
    checkpoint, after its store has the rows, so a job that keeps up still lags by what came since
    its last checkpoint.

    waits since: the age of the oldest record not committed, by its timestamp on the topic; empty
    when nothing waits. All that came before it is in the store, but for archive and lake, which
    hold a block back until it is full or its time is over (rotate_schedule_interval_ms).

    Exit codes: 0; 1 when a job that ran, or the sink of a store that is set, is not RUNNING, or
    when a record has waited for longer than --max-age-s; 3 when the cluster or the brokers do not
    answer.
    """
    config = load_config(config_path)
    cluster = Cluster(url or config.flink.url)
    jobs = statuses(config, cluster)
    now_ms = time.time_ns() // 1_000_000
    if as_json:
        for job in jobs:
            click.echo(json.dumps(job.as_json(now_ms)))
    else:
        _show(cluster, jobs, now_ms)
    down = [job.job for job in jobs if job.down]
    limit = math.inf if max_age_s is None else max_age_s
    late = [job.job for job in jobs if (job.waits_s(now_ms) or 0) > limit]
    if down:
        click.echo(f"not running: {', '.join(down)}", err=True)
    if late:
        click.echo(f"records wait longer than {max_age_s:g} s: {', '.join(late)}", err=True)
    if down or late:
        sys.exit(TROUBLE)


def _show(cluster: Cluster, jobs: list[Status], now_ms: int) -> None:
    table = Table(title=f"Jobs on {cluster.url}")
    for name in COLUMNS:
        table.add_column(name, justify="right" if name == "lag" else "left")
    for job in jobs:
        table.add_row(*job.as_row(now_ms))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def statuses(config: Config, cluster: Cluster) -> list[Status]:
    """The status of every job but the sinks that are not set. Raises DependencyFailed."""
    wanted = config.sinks.configured()
    known = cluster.jobs()
    plans = [
        LiveJob(job=name, config=config, python=sys.executable)
        for name in JOBS
        if not name.startswith(SINK) or name.removeprefix(SINK) in wanted
    ]
    held = spans(config.kafka, sorted({topic for plan in plans for topic in plan.reads}))
    return [_status(plan, cluster, known, held) for plan in plans]


def _status(
    plan: LiveJob, cluster: Cluster, known: list[Job], held: Mapping[Partition, range]
) -> Status:
    ours = [job for job in known if job.name == plan.job_name]
    job = next((job for job in ours if job.alive), ours[0] if ours else None)
    live = plan.live()
    read = {partition: span for partition, span in held.items() if partition[0] in plan.reads}
    done = committed(live.kafka, live.group, read)
    behind = waiting(live.kafka, done, read) if done or job else None
    if job is None:
        return Status(plan.job, "absent", behind, None, None)
    latest = cluster.checkpoints(job)["latest"].get("completed")
    acked = latest and latest["latest_ack_timestamp"]
    return Status(plan.job, job.state, behind, acked, cluster.restarts(job))
