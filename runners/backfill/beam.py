"""A backfill on a Beam runner: check the spec, run the job, return the ledger."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner, create_runner

from connectors.archive.offset_blocks import OffsetBlocks
from connectors.archive.read import Listing
from connectors.errors import BadArguments, DependencyFailed
from pipelines.backfill.beam import build
from pipelines.backfill.spec import BackfillSpec
from runners.backfill.beam_options import checked_options
from runners.backfill.lake_lock import lake_lock
from runners.backfill.request import (
    LEDGER,
    checked,
    listing_of,
    with_names,
    with_spool,
    write_ledger,
)

LOCAL_RUNNERS = ("DirectRunner", "FnApiRunner")


def run_backfill(
    spec: BackfillSpec,
    beam_args: Sequence[str] = (),
    on_start: Callable[[int, str], None] | None = None,
) -> dict[str, Any]:
    """Read an archive, or device topics, into a lake, and other stores, and return the ledger.

    Raises BadArguments, BadBindings or DependencyFailed. `on_start` gets the number of objects
    and the spool's folder, so that a caller can show progress.
    """
    options = checked_options(beam_args)
    pipeline = beam.Pipeline(_runner(options), options)
    with with_spool(checked(spec), _is_local(options)) as spec:
        _ = spec.terminals  # bindings that cannot be read are named before anything is written
        listing = listing_of(spec)
        with lake_lock(spec.tables, spec.spool):
            if on_start:
                on_start(len(listing.objects), spec.spool)
            return with_names(_run(spec, listing, pipeline), listing)


def _is_local(options: PipelineOptions) -> bool:
    return (options.view_as(StandardOptions).runner or LOCAL_RUNNERS[0]) in LOCAL_RUNNERS


def _runner(options: PipelineOptions) -> PipelineRunner:
    name = options.view_as(StandardOptions).runner or LOCAL_RUNNERS[0]
    try:
        return FnApiRunner() if name in LOCAL_RUNNERS else create_runner(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise BadArguments(f"--runner {name}: {error}") from None


def _run(
    spec: BackfillSpec, listing: Listing | OffsetBlocks, pipeline: beam.Pipeline
) -> dict[str, Any]:
    spec.state.folder.delete(LEDGER)
    ledger = build(pipeline, spec, listing.objects)
    _ = ledger | "write ledger" >> beam.Map(write_ledger, spec)
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        if re.search(r"^(\w+: )?KeyboardInterrupt\b", str(error), re.M):
            raise KeyboardInterrupt from None
        failed = re.search(
            r"DependencyFailed: (.+?)(?: \[while running '.*'\])?$", str(error), re.M
        )
        if failed is None:
            raise
        raise DependencyFailed(failed[1].strip()) from error
    data = spec.state.folder.read(LEDGER)
    if data is None:
        raise DependencyFailed(f"the ledger {spec.state.folder.uri}/{LEDGER} was not written")
    return dict(json.loads(data.to_pybytes()))
