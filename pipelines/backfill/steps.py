"""The steps of a backfill as plain functions; any engine, or none, can call them.

scan: an archive object or a block of Kafka -> spool, upload summaries, dead letters (`scan.py`)
judge: terminals -> verdicts on uploads
settle: an object's spool and verdicts -> telemetry rows and minute partials
merge_minutes: an hour's partials -> vehicle minutes
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from connectors.archive.names import ArchiveObject, OffsetBlock, parse_name
from connectors.kafka.client import begin_offsets
from connectors.lake.names import object_of
from connectors.lake.state import BUCKETS, ObjectRecord
from connectors.lake.write import TableWriter, rewrite
from connectors.sinks.tables import TELEMETRY
from pipelines.backfill.deliver_rows import Delivery, deliver_hour, refused_name, rows_before
from pipelines.backfill.object_records import STATE, begin, by_line, finish, places_of
from pipelines.backfill.read import scan
from pipelines.backfill.spec import BackfillSpec, Scanned
from pipelines.backfill.spool import Spool
from transforms.facts.telemetry import settle
from transforms.facts.vehicle_minutes import merge
from transforms.model.arrow_numpy import single
from transforms.terminal_rules.upload_summary import bucket_of
from transforms.terminal_rules.verdicts import judge

SUMMARY_BYTES_PER_JUDGEMENT = 16 << 20
PARTIALS_PER_MERGE = 150_000
COUNTS = ("in", "good", "dead", "duplicate", "late", "filtered", "samples", "duplicate_samples")


@dataclass(frozen=True)
class Context:
    """Which objects are judged together: all that the lake knows, or those that arrived close
    enough to this run's. `tasks` are ranges of buckets; `marked` are objects of earlier runs to
    settle again if what was decided on them changed."""

    names: tuple[str, ...]
    tasks: tuple[tuple[int, int], ...]
    marked: tuple[str, ...]


def gather(spec: BackfillSpec, scanned: Iterable[Scanned]) -> Context:
    """Decide what to judge after all objects were read."""
    done = list(scanned)
    own = {one.one.name for one in done}
    begun = spec.state.begun()
    if not own and not begun:
        return Context((), (), ())
    sizes = spec.state.summary_sizes(own)
    if spec.judge_within_days is not None and own:
        reach = spec.judge_within_days * 86_400_000
        first = min(one.one.hour_ms for one in done) - reach
        last = max(one.one.hour_ms for one in done) + reach
        near = {name for name in sizes if first <= parse_name(name, spec.zone).hour_ms <= last}
        sizes = {name: size for name, size in sizes.items() if name in own | begun | near}
    count = min(BUCKETS, -(-sum(sizes.values()) // SUMMARY_BYTES_PER_JUDGEMENT)) or 1
    edges = [BUCKETS * i // count for i in range(count + 1)]
    marked = sorted(((spec.state.judged() & sizes.keys()) | begun) - own)
    return Context(tuple(sizes), tuple(itertools.pairwise(edges)), tuple(marked))


def judge_terminals(
    spec: BackfillSpec, names: Iterable[str], first: int, last: int
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Verdicts on the uploads of the terminals in buckets `first` to `last` - 1, by object."""
    summaries = spec.state.read_summaries(names, first, last)
    verdicts = judge(summaries, spec.terminals.bindings.vehicle_at, spec.rules)
    objects = verdicts.column("object")
    if not len(objects):
        return
    encoded = objects.dictionary_encode()
    codes = np.asarray(encoded.indices)
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(len(encoded.dictionary) + 1))
    for code, name in enumerate(encoded.dictionary.to_pylist()):
        yield name, verdicts.take(pa.array(order[edges[code] : edges[code + 1]]))


@dataclass
class SettledObject:
    """What settling did: hours whose minutes changed, folders of tables that did, and the object's
    line of the ledger."""

    hours: set[int] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    key: tuple[str, int, str] = ("", 0, "")
    broken: tuple[str, str] | None = None
    own: bool = True


def settle_object(
    spec: BackfillSpec, name: str, scanned: Scanned | None, parts: Iterable[pa.RecordBatch]
) -> SettledObject | None:
    """Write the facts of one object. An object of an earlier run (`scanned` is None) is read
    again, and only if its verdicts changed; None when there is nothing to do."""
    verdicts = by_line(parts)
    own = scanned is not None
    before = spec.state.record(name)
    if scanned is None:
        if not spec.state.is_begun(name) and verdicts.equals(spec.state.verdicts(name)):
            return None
        origin = _origin(spec, before)
        if origin is None:
            reason = "verdicts changed, but what it came from is gone; its facts stay"
            hours = set(before.hours if before else ())
            return SettledObject(hours, broken=(name, reason), own=False)
        spec, source = origin
        again = [one for one in scan(spec, source) if one.one.name == name]
        scanned = again[0]
    one = scanned.one
    counts = dict.fromkeys(COUNTS, 0)
    spool, delivery = Spool(spec, one), Delivery(spec)
    with (
        TableWriter(spec.tables, refused_name(one.lake_name), spec.zone) as refused,
        TableWriter(spec.tables, one.lake_name, spec.zone) as facts,
        spec.state.partials_writer(one.stem, spec.zone) as partials,
    ):
        for prepared in spool.take():
            settled = settle(prepared, verdicts, spec.terminals.bindings, spec.rules)
            facts.write(f"telemetry_{settled.message_type}", settled.telemetry, settled.event_ms)
            delivery.put(TELEMETRY[settled.message_type], settled.telemetry)
            minute_ms = np.asarray(settled.partials.column("minute").cast(pa.int64()))
            partials.write("partials", settled.partials, minute_ms)
            counts["good"] += settled.good
            counts["samples"] += settled.telemetry.num_rows
        delivery.gone(rows_before(spec, name, before.files if before else ()))
        refused.write_hour("dead_letters", delivery.letters(), int(one.hour))
        record = _record(spec, scanned, [*facts.files, *refused.files], partials)
        begin(spec, record, before)
    finish(spec, record, before, verdicts)
    spool.drop()
    counts["dead"], counts["filtered"] = scanned.dead, scanned.filtered
    counts["duplicate"] = int((~_bools(verdicts.column("counts"))).sum())
    counts["duplicate_samples"] = scanned.dropped
    counts["in"] = scanned.uploads + scanned.dead + scanned.filtered
    hours = set(partials.hours) | set(before.hours if before else [])
    broken = (name, scanned.broken) if scanned.broken else None
    key = (one.topic, one.partition, one.hour)
    return SettledObject(hours, places_of(record, before), counts, key, broken, own)


def _bools(column: pa.Array) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False), bool)


def _origin(
    spec: BackfillSpec, before: ObjectRecord | None
) -> tuple[BackfillSpec, ArchiveObject | OffsetBlock] | None:
    """The job as if it read where the object came from, and what to read there; None when that
    is gone. What came from Kafka may lie in this run's archive by now, under the same name."""
    if before is None:
        return None
    one = parse_name(before.name, spec.zone)
    again = replace(spec, archive=before.archive, types=tuple(before.types))
    if again.reads_kafka and not spec.reads_kafka and spec.topics.child(one.name).exists():
        again = replace(again, archive=spec.archive)
    if not again.reads_kafka:
        return (again, one) if again.topics.child(one.name).exists() else None
    start, end = before.offsets
    block = OffsetBlock(one.topic, one.partition, start, end, int(one.first_offset))
    held = begin_offsets(again.brokers, [one.topic])
    is_held = held.get((one.topic, one.partition), block.end) <= block.start
    return (again, block) if is_held else None


def _record(
    spec: BackfillSpec, scanned: Scanned, facts: list[str], partials: TableWriter
) -> ObjectRecord:
    files = sorted([*facts, *scanned.files, *(STATE + name for name in partials.files)])
    hours, offsets = sorted(partials.hours), list(scanned.offsets)
    types = list(scanned.types)
    return ObjectRecord(scanned.one.name, spec.archive, types, files, hours, offsets)


def merge_minutes(spec: BackfillSpec, hour: int) -> int:
    """Write `vehicle_minutes` of a local hour (yyyyMMddHH); returns its rows."""
    parts = list(spec.state.partials(hour))
    count = sum(part.num_rows for part in parts)
    slices = max(1, -(-count // PARTIALS_PER_MERGE))
    buckets = [bucket_of(single(part["vehicle_id"]), slices) for part in parts]
    merged = []
    for number in range(slices):
        chosen = [
            part.filter(pa.array(bucket == number))
            for part, bucket in zip(parts, buckets, strict=True)
        ]
        if chosen:
            merged.append(merge(pa.concat_tables(chosen)))
    table = pa.concat_tables(merged).combine_chunks() if merged else merge(pa.table({}))
    ordered = table.sort_by([("vehicle_id", "ascending"), ("minute", "ascending")])
    deliver_hour(spec, object_of(hour), ordered)
    rewrite(spec.tables, object_of(hour), ordered)
    return int(table.num_rows)
