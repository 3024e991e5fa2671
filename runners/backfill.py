"""Start a backfill: check the arguments, run the Beam job, hand back the ledger."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner, create_runner

from connectors.archive import Listing, list_objects
from connectors.files import DependencyFailed, S3Settings, folder
from pipelines.backfill import build
from pipelines.job import Job
from runners.alone import SPOOL_PREFIX, alone
from runners.beam_options import checked_options
from runners.config import BadArguments, Config
from schemas import MESSAGE_TYPES

LOCAL_RUNNERS = ("DirectRunner", "FnApiRunner")
LEDGER = "ledger.json"
COUNTED = ("good", "dead", "duplicate", "late", "filtered")


def balances(ledger: dict[str, Any]) -> bool:
    """in = good + dead + duplicate + late + filtered, in all and in every line."""
    lines = [ledger["totals"], *ledger["by"]]
    return all(line["in"] == sum(line[name] for name in COUNTED) for line in lines)


def run_backfill(
    archive: str,
    bindings: str,
    lake: str,
    types: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    config: Config | None = None,
    beam_args: Sequence[str] = (),
    on_start: Callable[[int, str], None] | None = None,
) -> dict[str, Any]:
    """Read an archive into a lake and return the ledger.

    Raises BadArguments, BadBindings or DependencyFailed. `on_start` is told the number of
    objects and the spool's folder, so that a caller can show progress.
    """
    config = config or Config()
    settings = config.s3.settings()
    options = checked_options(beam_args)
    pipeline = beam.Pipeline(_runner(options), options)
    wanted = _types(types)
    if start and end and start >= end:
        raise BadArguments(f"--from {start.isoformat()} is not before --to {end.isoformat()}")
    place = folder(archive, settings)
    if not place.child("topics").exists():
        if place.local:
            raise BadArguments(f"--archive {archive}: holds no folder topics/")
        raise DependencyFailed(f"--archive {archive}: there is no {archive}/topics/")
    with _spool(config, lake, settings, options) as spool:
        job = Job(
            archive=place.uri,
            bindings=bindings,
            lake=lake,
            spool=spool,
            rules=config.rules,
            types=wanted,
            zone=config.fleet_zone,
            schemas=config.schemas,
            judge_within_days=config.judge_within_days,
            settings=settings,
        )
        assert job.terminals
        listing = list_objects(job.topics, job.zone, frozenset(wanted), start, end)
        with alone(job.tables, spool):
            if on_start:
                on_start(len(listing.objects), spool)
            return _with_names(_run(job, listing, pipeline), listing)


def _types(types: Sequence[str] | None) -> tuple[str, ...]:
    unknown = [name for name in types or () if name not in MESSAGE_TYPES]
    if unknown:
        raise BadArguments(f"--types {unknown[0]!r}: expected some of {', '.join(MESSAGE_TYPES)}")
    return tuple(name for name in MESSAGE_TYPES if not types or name in types)


@contextlib.contextmanager
def _spool(
    config: Config, lake: str, settings: S3Settings, options: PipelineOptions
) -> Iterator[str]:
    """A folder that all workers reach: a local one for a local runner, else beside the lake."""
    runner = options.view_as(StandardOptions).runner or LOCAL_RUNNERS[0]
    if config.spool is None and runner in LOCAL_RUNNERS:
        with tempfile.TemporaryDirectory(prefix=SPOOL_PREFIX) as local:
            yield local
        return
    uri = f"{config.spool or lake.rstrip('/') + '/_state/spool'}/{uuid.uuid4().hex}"
    try:
        yield uri
    finally:
        folder(uri, settings).clear()


def _runner(options: PipelineOptions) -> PipelineRunner:
    name = options.view_as(StandardOptions).runner or LOCAL_RUNNERS[0]
    try:
        return FnApiRunner() if name in LOCAL_RUNNERS else create_runner(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise BadArguments(f"--runner {name}: {error}") from None


def _run(job: Job, listing: Listing, pipeline: beam.Pipeline) -> dict[str, Any]:
    job.state.folder.delete(LEDGER)
    ledger = build(pipeline, job, listing.objects)
    _ = ledger | "write ledger" >> beam.Map(write_ledger, job)
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        if re.search(r"^(\w+: )?KeyboardInterrupt\b", str(error), re.M):
            raise KeyboardInterrupt from None
        told = re.search(r"DependencyFailed: (.+?)(?: \[while running '.*'\])?$", str(error), re.M)
        if told is None:
            raise
        raise DependencyFailed(told[1].strip()) from error
    data = job.state.folder.read(LEDGER)
    if data is None:
        raise DependencyFailed(f"the ledger {job.state.folder.uri}/{LEDGER} was not written")
    return dict(json.loads(data.to_pybytes()))


def write_ledger(ledger: dict[str, Any], job: Job) -> None:
    """Keep the ledger of the last run beside the lake's state, where the caller finds it."""
    job.state.folder.write(LEDGER, json.dumps(ledger, indent=1).encode())


def _with_names(ledger: dict[str, Any], listing: Listing) -> dict[str, Any]:
    """Objects that were not even opened, because their names say nothing, are broken too."""
    named = [{"name": name, "reason": reason} for name, reason in listing.broken]
    objects = ledger["objects"]
    broken = sorted([*objects["broken"], *named], key=lambda one: one["name"])
    return {**ledger, "objects": {**objects, "broken": broken}}
