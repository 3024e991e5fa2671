"""Start a backfill: check the arguments, run the Beam job, hand back the ledger."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner, create_runner

from connectors.archive import Listing, list_objects
from connectors.blocks import BLOCK, SCHEME, Blocks, Spans, list_blocks, parse_ranges, spans_between
from connectors.files import DependencyFailed, S3Settings, folder
from connectors.state import State
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
    offsets: Spans | None = None,
) -> dict[str, Any]:
    """Read an archive into a lake and return the ledger. `archive` may be `kafka://host:port,…`:
    then device topics are read, what arrived from `start` to `end`, or `offsets` of them.

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
    if offsets and (start or end):
        raise BadArguments("--offsets with --from or --to: give one or the other")
    if not archive.startswith(SCHEME):
        archive = _checked(archive, settings)
    with _spool(config, lake, settings, options) as spool:
        job = Job(
            archive=archive,
            bindings=bindings,
            lake=lake,
            spool=spool,
            rules=config.rules,
            types=wanted,
            zone=config.fleet_zone,
            schemas=config.schemas,
            judge_within_days=config.judge_within_days,
            settings=settings,
            kafka=config.kafka,
            registry=config.registry,
        )
        assert job.terminals
        listing = _listing(job, start, end, offsets)
        with alone(job.tables, spool):
            if on_start:
                on_start(len(listing.objects), spool)
            return _with_names(_run(job, listing, pipeline), listing)


def source(
    archive: str | None, brokers: str | None, offsets: str | None, config: Config
) -> tuple[str, Spans | None]:
    """What --archive, --kafka and --offsets lead to: `archive` and `offsets` of a run."""
    brokers = brokers or (None if archive else config.kafka.bootstrap)
    if archive and brokers:
        raise BadArguments(f"--archive {archive} and --kafka {brokers}: give one of them")
    if brokers:
        return SCHEME + brokers, parse_ranges(offsets) if offsets else None
    if archive is None:
        raise BadArguments("neither --archive nor --kafka: say what to read")
    if offsets:
        raise BadArguments(f"--offsets {offsets}: they are of Kafka, and an archive is to be read")
    return archive, None


def _checked(archive: str, settings: S3Settings) -> str:
    place = folder(archive, settings)
    if not place.child("topics").exists():
        if place.local:
            raise BadArguments(f"--archive {archive}: holds no folder topics/")
        raise DependencyFailed(f"--archive {archive}: there is no {archive}/topics/")
    return place.uri


def _listing(
    job: Job, start: datetime | None, end: datetime | None, offsets: Spans | None
) -> Listing | Blocks:
    if not job.live:
        return list_objects(job.topics, job.zone, frozenset(job.types), start, end)
    topics = [f"message-{name}" for name in job.types]
    spans = offsets or spans_between(job.brokers, topics, start, end)
    return list_blocks(job.brokers, spans, _Reached(job.state))


class _Reached:
    """How far a lake has read blocks of partitions; looked up only where it matters."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._names: dict[tuple[str, int], list[str]] | None = None

    def __call__(self, topic: str, partition: int, start: int) -> int | None:
        if self._names is None:
            self._names = defaultdict(list)
            for name in self._state.known():
                place, _, offset = name.rpartition("/")[2].partition(".")[0].rpartition("+")
                block = int(offset) // BLOCK * BLOCK if offset.isdigit() else -1
                self._names[place, block].append(name)
        names = self._names.get((f"{topic}+{partition}", start), [])
        ends = [self._state.reached(name) for name in names]
        return max((end for end in ends if end is not None), default=None)


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


def _run(job: Job, listing: Listing | Blocks, pipeline: beam.Pipeline) -> dict[str, Any]:
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


def _with_names(ledger: dict[str, Any], listing: Listing | Blocks) -> dict[str, Any]:
    """What was not even opened is broken too: objects whose names say nothing, lost offsets."""
    named = [{"name": name, "reason": reason} for name, reason in listing.broken]
    objects = ledger["objects"]
    broken = sorted([*objects["broken"], *named], key=lambda one: one["name"])
    return {**ledger, "objects": {**objects, "broken": broken}}
