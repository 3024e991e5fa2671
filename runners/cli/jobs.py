"""`odograph jobs`: what runs on the cluster, and its end."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from runners.cli.options import cluster_at, cluster_option, config_option
from runners.config import load_config
from runners.flink.live_job import JOBS, PREFIX
from runners.flink.rest import Cluster, Job


@click.group()
def jobs() -> None:
    """Live jobs on a Flink cluster."""


@jobs.command("list")
@config_option
@cluster_option
def jobs_list(config_path: str, url: str | None) -> None:
    """Show the jobs the cluster knows, the newest first."""
    cluster = cluster_at(load_config(config_path), url)
    table = Table(title=f"Jobs on {cluster.url}")
    for name in ("job", "state", "since (UTC)", "parallelism", "restarts", "last checkpoint"):
        table.add_column(name)
    for job in cluster.jobs():
        table.add_row(*_line(cluster, job))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _line(cluster: Cluster, job: Job) -> list[str]:
    started = datetime.fromtimestamp(job.started_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    vertices = cluster.details(job)["vertices"]
    done = cluster.checkpoints(job)
    latest = done["latest"].get("completed")
    checkpoint = "none"
    if latest:
        moment = datetime.fromtimestamp(latest["latest_ack_timestamp"] / 1000, UTC)
        size = latest["state_size"] / 1e6
        checkpoint = f"{moment:%H:%M:%S}, {latest['end_to_end_duration']} ms, {size:.1f} MB"
    parallelism = max((vertex["parallelism"] for vertex in vertices), default=0)
    restarts = cluster.restarts(job)
    again = "" if restarts is None else str(restarts)
    return [job.name, job.state, started, str(parallelism), again, checkpoint]


@jobs.command("stop")
@click.argument("job", type=click.Choice(JOBS))
@config_option
@cluster_option
@click.option("--savepoint", help="Folder for the savepoint [flink.savepoints].")
def jobs_stop(job: str, config_path: str, url: str | None, savepoint: str | None) -> None:
    """Stop a job with a savepoint and print where that lies."""
    config = load_config(config_path)
    cluster = cluster_at(config, url)
    running = cluster.need(f"{PREFIX}{job}")
    click.echo(cluster.stop(running, savepoint or config.flink.savepoints))


@jobs.command("cancel")
@click.argument("job", type=click.Choice(JOBS))
@config_option
@cluster_option
def jobs_cancel(job: str, config_path: str, url: str | None) -> None:
    """End a job at once. Its last checkpoint stays: --from-savepoint latest goes on from there."""
    cluster = cluster_at(load_config(config_path), url)
    running = cluster.need(f"{PREFIX}{job}")
    cluster.cancel(running)
    click.echo(f"{running.name} ({running.id}) is cancelled")
