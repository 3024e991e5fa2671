"""Start a backfill: check the arguments, run the Beam job, hand back the ledger."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner, create_runner

from connectors.archive.offset_blocks import SCHEME, OffsetBlocks, Spans
from connectors.archive.read import Listing
from connectors.errors import BadArguments, DependencyFailed
from pipelines.backfill.beam import build
from pipelines.backfill.ledger import COUNTED as COUNTED
from pipelines.backfill.ledger import balances as balances
from pipelines.backfill.spec import BackfillSpec
from runners.backfill.beam_options import checked_options
from runners.backfill.lake_lock import lake_lock
from runners.backfill.request import (
    LEDGER,
    checked_archive,
    checked_span,
    job_of,
    listing_of,
    spool_of,
    wanted_types,
    with_names,
    write_ledger,
)
from runners.backfill.request import source as source
from runners.config import Config

LOCAL_RUNNERS = ("DirectRunner", "FnApiRunner")


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
    stores: Sequence[str] = (),
) -> dict[str, Any]:
    """Read an archive into a lake, and other `stores`, and return the ledger. `archive` may be `kafka://host:port,…`:
    then device topics are read, what arrived from `start` to `end`, or `offsets` of them.

    Raises BadArguments, BadBindings or DependencyFailed. `on_start` is told the number of
    objects and the spool's folder, so that a caller can show progress.
    """
    config = config or Config()
    options = checked_options(beam_args)
    pipeline = beam.Pipeline(_runner(options), options)
    wanted = wanted_types(types)
    checked_span(start, end)
    if offsets and (start or end):
        raise BadArguments("--offsets with --from or --to: give one or the other")
    if not archive.startswith(SCHEME):
        archive = checked_archive(archive, config.s3.settings())
    with spool_of(config, lake, _is_local(options)) as spool:
        job = job_of(archive, bindings, lake, spool, wanted, config, stores)
        listing = listing_of(job, start, end, offsets)
        with lake_lock(job.tables, spool):
            if on_start:
                on_start(len(listing.objects), spool)
            return with_names(_run(job, listing, pipeline), listing)


def _is_local(options: PipelineOptions) -> bool:
    return (options.view_as(StandardOptions).runner or LOCAL_RUNNERS[0]) in LOCAL_RUNNERS


def _runner(options: PipelineOptions) -> PipelineRunner:
    name = options.view_as(StandardOptions).runner or LOCAL_RUNNERS[0]
    try:
        return FnApiRunner() if name in LOCAL_RUNNERS else create_runner(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise BadArguments(f"--runner {name}: {error}") from None


def _run(
    job: BackfillSpec, listing: Listing | OffsetBlocks, pipeline: beam.Pipeline
) -> dict[str, Any]:
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
