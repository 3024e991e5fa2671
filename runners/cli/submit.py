"""`odograph submit`: start jobs on a Flink cluster."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import click

from connectors.errors import BadArguments, BadSettings, DependencyFailed
from connectors.sinks.catalogue import CATALOGUE
from runners.cli.backfill_options import BackfillOptions, backfill_options
from runners.cli.options import (
    cluster_at,
    cluster_option,
    config_option,
    parallelism_option,
    python_option,
)
from runners.cli.terminal import Instant, zoned
from runners.config import Config, load_config
from runners.flink.live_job import PREFIX, SINK
from runners.flink.rest import Cluster

START_NAMES = ("earliest", "latest", "committed")
Jobs = Callable[[Config], list[str]]


class StartAt(click.ParamType[str | datetime]):
    """earliest, latest, committed, or an ISO time."""

    name = "earliest|latest|committed|ISO"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | datetime:
        return value if value in START_NAMES else Instant().convert(value, param, ctx)


def start_at(value: str | datetime, zone: str) -> str:
    """`--start-at` for Flink's Kafka source: an instant as epoch milliseconds."""
    if isinstance(value, str):
        return value
    moment = zoned(value, zone)
    if moment is None:
        raise BadArguments(f"--start-at {value}: no instant")
    return str(round(moment.timestamp() * 1000))


@click.group()
def submit() -> None:
    """Start a job on a Flink cluster.

    convert, aggregate and the sinks are live: they run until they are stopped. The first two write
    in Kafka transactions: a reader of committed records sees each upload once. A sink writes by
    key: what it writes again changes nothing. A job of a name runs once; stop it before it is
    started anew. backfill ends by itself.

    Carry on where a live job stood: `odograph jobs stop convert --config FILE` prints a savepoint
    for --from-savepoint; after a crash of the cluster, `--from-savepoint latest` takes the newest
    checkpoint.
    """


def _live_job_command(
    group: click.Group, name: str, jobs: Jobs, help_text: str, several: bool = False
) -> click.Command:
    """A command that starts the live job that `jobs` names, or all it names where it may be
    `several`; `jobs` is given the settings."""

    @group.command(name, help=help_text)
    @config_option
    @cluster_option
    @parallelism_option
    @click.option("--from-savepoint", "savepoint", help="A path, or `latest`.")
    @click.option(
        "--start-at",
        "start",
        type=StartAt(),
        default="committed",
        show_default=True,
        help="Where to start reading without a savepoint; `committed` falls back to earliest.",
    )
    @click.option("--bindings", help="A bindings file instead of the operations database.")
    @python_option
    def start_jobs(
        config_path: str,
        url: str | None,
        parallelism: int,
        savepoint: str | None,
        start: str | datetime,
        bindings: str | None,
        python: str | None,
    ) -> None:
        from runners.flink.environment import flink_python
        from runners.flink.live_job import LiveJob
        from runners.flink.submit import submit as hand_over

        config = load_config(config_path)
        cluster = cluster_at(config, url)

        def start_job(job: str) -> None:
            plan = LiveJob(
                job=job,
                config=config,
                python=python or str(flink_python()),
                start_at=start_at(start, config.fleet_zone),
                parallelism=parallelism,
                bindings=bindings,
            )
            job_id = hand_over(plan, cluster, savepoint)
            click.echo(
                f"{plan.job_name} runs as {job_id} on {cluster.url}, parallelism {parallelism}"
            )

        names = jobs(config)
        if not several:
            start_job(names[0])
            return
        if savepoint not in (None, "latest"):
            raise BadArguments(f"--from-savepoint {savepoint} is of one job: name that sink")
        _start_each(names, cluster, start_job)

    return start_jobs


def _start_each(names: list[str], cluster: Cluster, start_job: Callable[[str], None]) -> None:
    """Start the jobs that do not run; the failure of a job stops no other. Raises BadArguments or
    DependencyFailed at the end, where some did not start."""
    failed: dict[str, Exception] = {}
    for job in names:
        if cluster.running(f"{PREFIX}{job}"):
            click.echo(f"{PREFIX}{job} is already running on {cluster.url}")
            continue
        try:
            start_job(job)
        except (BadSettings, DependencyFailed) as error:
            click.echo(f"{job}: {error}", err=True)
            failed[job] = error
    if failed:
        away = any(isinstance(error, DependencyFailed) for error in failed.values())
        kind = DependencyFailed if away else BadArguments
        raise kind(f"not started: {', '.join(failed)}")


def _only(job: str) -> Jobs:
    return lambda _: [job]


def _every_sink(config: Config) -> list[str]:
    if not config.sinks.configured():
        raise BadArguments("sinks: no store is set in the settings file; see docs/sinks/README.md")
    return [f"{SINK}{name}" for name in config.sinks.configured()]


_live_job_command(submit, "convert", _only("convert"), "Turn device topics into vehicle topics.")
_live_job_command(
    submit, "aggregate", _only("aggregate"), "Turn device topics into vehicle minutes."
)


@submit.group()
def sink() -> None:
    """Write facts to a store, a job of its own for each.

    What a store needs is made in it first: tables, indices, templates. While a store is away its
    job waits and falls behind; nothing else does, and nothing is lost. Where a store is and how it
    is written stands in `sinks` of the settings file (docs/sinks/README.md).
    """


for _entry in CATALOGUE.values():
    _live_job_command(sink, _entry.name, _only(f"{SINK}{_entry.name}"), _entry.help)
_live_job_command(
    sink,
    "all",
    _every_sink,
    "Start the sink of every store that is set, but those that run already.",
    several=True,
)


@submit.command("backfill")
@click.option("--archive", required=True, help="Folder or s3:// prefix that holds topics/.")
@backfill_options
@cluster_option
@parallelism_option
@python_option
def submit_backfill(
    options: BackfillOptions, archive: str, url: str | None, parallelism: int, python: str | None
) -> None:
    """Turn an archive of device messages into lake tables, on many machines.

    The same tables and the same ledger as `odograph backfill`. All workers must reach archive,
    bindings, lake and the spool, which lies below the lake unless the settings name a place.
    """
    from runners.backfill.flink import FlinkBackfill, run
    from runners.cli.ledger_report import report
    from runners.flink.environment import flink_python

    config = load_config(options.config_path)
    spec = options.spec(config, archive)
    python = python or str(flink_python())
    backfill = FlinkBackfill(spec, python, parallelism, config.flink.options)
    report(run(backfill, cluster_at(config, url)), options.lake, options.ledger)
