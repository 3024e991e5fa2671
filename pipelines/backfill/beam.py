"""The backfill job: an archive of device messages, or a range of the device topics themselves,
becomes lake tables. Any Beam runner.

Between steps travel references, verdicts and counts; samples wait in the spool. So memory does
not grow with the archive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa

from connectors.archive.names import ArchiveObject, OffsetBlock
from connectors.lake.compact import take_out
from pipelines.backfill import ledger as ledgers
from pipelines.backfill.beam_coder import BatchCoder as BatchCoder
from pipelines.backfill.day_loads import Load, loads
from pipelines.backfill.deliver_rows import load
from pipelines.backfill.read import scan
from pipelines.backfill.spec import BackfillSpec, Scanned
from pipelines.backfill.steps import (
    Context,
    SettledObject,
    gather,
    judge_terminals,
    merge_minutes,
    settle_object,
)

Verdicts = tuple[str, pa.RecordBatch]


def build(
    pipeline: beam.Pipeline, spec: BackfillSpec, sources: Iterable[ArchiveObject | OffsetBlock]
) -> beam.PCollection[dict[str, Any]]:
    """The whole job; its one element is the ledger."""
    scanned = (
        pipeline
        | "archive objects" >> beam.Create(list(sources), reshuffle=True)
        | "scan" >> beam.FlatMap(scan_with, spec)
    )
    context = scanned | "all are read" >> beam.CombineGlobally(Gather(spec))
    verdicts = (
        context
        | "terminals" >> beam.FlatMap(lambda context: context.tasks)
        | "spread terminals" >> beam.Reshuffle()
        | "judge" >> beam.ParDo(Judge(spec), beam.pvalue.AsSingleton(context))
    )
    settled = (
        {
            "scanned": scanned | "by name" >> beam.Map(lambda done: (done.one.name, done)),
            "verdicts": verdicts,
            "judged before": context | beam.FlatMap(lambda c: [(name, None) for name in c.marked]),
        }
        | "meet" >> beam.CoGroupByKey()
        | "settle" >> beam.FlatMap(settle_with, spec)
    )
    merged = (
        settled
        | "changed hours" >> beam.FlatMap(lambda done: done.hours)
        | "each hour once" >> beam.Distinct()
        | "merge minutes" >> beam.Map(merge_with, spec)
        | "vehicle minutes" >> beam.CombineGlobally(sum)
    )
    tidied = (
        settled
        | "changed folders" >> beam.FlatMap(lambda done: done.places)
        | "each folder once" >> beam.Distinct()
        | "tidy" >> beam.Map(tidy_with, spec)
        | "tidied folders" >> beam.combiners.Count.Globally()
    )
    loaded = (
        pipeline
        | "when all is settled" >> beam.Create([None])
        | "days that wait" >> beam.FlatMap(loads_after, beam.pvalue.AsSingleton(merged), spec)
        | "spread days" >> beam.Reshuffle()
        | "load" >> beam.Map(load_with, spec)
        | "loaded days" >> beam.combiners.Count.Globally()
    )
    sides = [beam.pvalue.AsSingleton(side) for side in (merged, tidied, loaded)]
    ledger: beam.PCollection[dict[str, Any]] = (
        settled
        | "ledger" >> beam.CombineGlobally(Ledger())
        | "finish" >> beam.Map(finish, *sides, spec)
    )
    return ledger


def scan_with(source: ArchiveObject | OffsetBlock, spec: BackfillSpec) -> list[Scanned]:
    """Step 1 on one object or block."""
    return scan(spec, source)


def settle_with(group: tuple[str, dict[str, Any]], spec: BackfillSpec) -> list[SettledObject]:
    """Step 3 on one object and all verdicts on it."""
    name, found = group
    scanned = next(iter(found["scanned"]), None)
    settled = settle_object(spec, name, scanned, found["verdicts"])
    return [] if settled is None else [settled]


def merge_with(hour: int, spec: BackfillSpec) -> int:
    """Step 4 on one hour."""
    return merge_minutes(spec, hour)


def tidy_with(place: str, spec: BackfillSpec) -> None:
    """Step 4 on one folder of a table: merged objects there give way to what was settled."""
    take_out(spec.tables, place)


def loads_after(_: None, minutes: int, spec: BackfillSpec) -> list[Load]:
    """What waits for stores that take whole days, once all minutes are there."""
    return list(loads(spec))


def load_with(waiting: Load, spec: BackfillSpec) -> None:
    """Step 5 on one day of a table."""
    load(spec, waiting)


def finish(
    ledger: dict[str, Any], minutes: int, tidied: int, loaded: int, spec: BackfillSpec
) -> dict[str, Any]:
    """The ledger, complete once all minutes are written, all folders tidied and all days loaded;
    nothing is left to do then."""
    spec.state.finish()
    return {**ledger, "vehicle_minutes": minutes}


class Gather(beam.CombineFn):
    """Waits for all objects, then says what is to be judged together."""

    def __init__(self, spec: BackfillSpec) -> None:
        self.spec = spec

    def create_accumulator(self) -> list[Scanned]:
        return []

    def add_input(self, accumulator: list[Scanned], element: Scanned) -> list[Scanned]:
        accumulator.append(element)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[list[Scanned]]) -> list[Scanned]:
        return [one for accumulator in accumulators for one in accumulator]

    def extract_output(self, accumulator: list[Scanned]) -> Context:
        return gather(self.spec, accumulator)


class Judge(beam.DoFn):
    """Step 2 on a range of buckets of terminals."""

    def __init__(self, spec: BackfillSpec) -> None:
        self.spec = spec

    def process(self, element: tuple[int, int], context: Context) -> Iterator[Verdicts]:
        yield from judge_terminals(self.spec, context.names, *element)


class Ledger(beam.CombineFn):
    """Adds up what settling did, in all and by topic, partition and hour."""

    def create_accumulator(self) -> ledgers.Sums:
        return ledgers.nothing()

    def add_input(self, accumulator: ledgers.Sums, element: SettledObject) -> ledgers.Sums:
        return ledgers.add(accumulator, element)

    def merge_accumulators(self, accumulators: Iterable[ledgers.Sums]) -> ledgers.Sums:
        return ledgers.join(accumulators)

    def extract_output(self, accumulator: ledgers.Sums) -> dict[str, Any]:
        return ledgers.ledger(accumulator)
