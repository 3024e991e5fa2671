"""The four steps of a backfill as plain functions; any engine, or none, can call them.

scan: an archive object -> spool, register rows, dead letters
judge: terminals -> verdicts on uploads
settle: an object's spool and verdicts -> telemetry rows and minute partials
merge_minutes: an hour's partials -> vehicle minutes
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from connectors.archive import ArchiveObject, BrokenObject, parse_name, read_object
from connectors.lake import TableWriter, hour_folder, rewrite
from connectors.state import BUCKETS, ObjectRecord
from pipelines.job import Job, Scanned
from schemas import MESSAGE_TYPES
from transforms.arrays import single
from transforms.container import Block, decode_block
from transforms.decode import decode
from transforms.judge import SCHEMA as VERDICTS
from transforms.judge import judge
from transforms.minutes import merge
from transforms.register import bucket_of, enroll
from transforms.settle import Prepared, prepare, settle
from transforms.uploads import Uploads, concat_uploads

REGISTER_BYTES_PER_JUDGEMENT = 16 << 20
PARTIALS_PER_MERGE = 150_000
COUNTS = ("in", "good", "dead", "duplicate", "late", "filtered", "samples", "duplicate_samples")


def scan(job: Job, one: ArchiveObject) -> Scanned:
    """Read, decode and check one object; its samples wait in the spool for their verdicts."""
    register: list[pa.RecordBatch] = []
    dead = filtered = dropped = 0
    broken = None
    types = types_of(job, one)
    spool = Spool(job, one)
    with TableWriter(job.tables, one.lake_name, job.zone) as letters:
        try:
            for batch in read_object(job.topics, one, job.rules.bounds.max_dead_letter_bytes):
                container = isinstance(batch, Block)
                outcome = (decode_block if container else decode)(batch, job.decoder)
                dead += outcome.dead.num_rows
                letters.write_hour("dead_letters", outcome.dead, int(one.hour))
                for uploads in by_type(outcome.good):
                    if uploads.message_type not in types:
                        filtered += len(uploads)
                        continue
                    prepared = prepare(uploads, job.rules)
                    dropped += int(prepared.dropped.sum())
                    register.append(enroll(prepared.uploads))
                    spool.put(prepared)
        except BrokenObject as error:
            broken = str(error)
    uploads = job.state.write_register(one.name, register)
    return Scanned(one, types, uploads, dead, filtered, dropped, broken, tuple(letters.files))


def types_of(job: Job, one: ArchiveObject) -> tuple[str, ...]:
    """Message types wanted of an object, by this run or by an earlier one: leaving a type out
    leaves what the lake has of it."""
    before = None if job.types == MESSAGE_TYPES else job.state.record(one.name)
    earlier = before.types if before else []
    return tuple(name for name in MESSAGE_TYPES if name in job.types or name in earlier)


def by_type(parts: Iterable[Uploads]) -> list[Uploads]:
    """Decoded parts joined to one `Uploads` a message type."""
    groups: dict[str, list[Uploads]] = defaultdict(list)
    for part in parts:
        groups[part.message_type].append(part)
    return [concat_uploads(groups[name]) for name in sorted(groups)]


@dataclass
class Spool:
    """Prepared uploads of one object between scan and settle, as Arrow IPC."""

    job: Job
    one: ArchiveObject
    parts: int = 0

    @property
    def _stem(self) -> str:
        return hashlib.sha256(self.one.name.encode()).hexdigest()[:24]

    def put(self, prepared: Prepared) -> None:
        """Append a batch."""
        uploads = prepared.uploads
        head = uploads.head.append_column("dropped", pa.array(prepared.dropped))
        rows = uploads.rows.append_column("sample_idx", pa.array(prepared.sample_idx))
        rows = rows.append_column("step_m", pa.array(prepared.step_m))
        name = f"{self._stem}/{self.parts:06d}-{uploads.message_type}"
        self.parts += 1
        with self.job.scratch.whole(name) as stream:
            for batch in (head, rows):
                with pa.ipc.new_stream(stream, batch.schema) as writer:
                    writer.write_batch(batch)

    def take(self) -> Iterator[Prepared]:
        """The batches in order."""
        folder = self.job.scratch.child(self._stem)
        for name, _ in folder.names():
            stream = pa.BufferReader(folder.read(name))
            head, rows = _next_batch(stream), _next_batch(stream)
            sample_idx, step_m = np.asarray(rows.column(-2)), np.asarray(rows.column(-1))
            message_type = name.partition("-")[2]
            uploads = Uploads(message_type, _without(head, 1), _without(rows, 2))
            yield Prepared(uploads, sample_idx, step_m, np.asarray(head.column("dropped")))

    def drop(self) -> None:
        """Delete what waited."""
        self.job.scratch.child(self._stem).clear()


def _next_batch(stream: pa.NativeFile) -> pa.RecordBatch:
    """The one batch of the next Arrow stream in a file of several."""
    with pa.ipc.open_stream(stream) as reader:
        batch = reader.read_next_batch()
        reader.read_all()
    return batch


def _without(batch: pa.RecordBatch, last: int) -> pa.RecordBatch:
    return batch.select(batch.schema.names[:-last])


@dataclass(frozen=True)
class Context:
    """Which objects are judged together: all that the lake knows, or those that arrived close
    enough to this run's. `tasks` are ranges of buckets; `marked` are objects of earlier runs to
    settle again if what was decided on them changed."""

    names: tuple[str, ...]
    tasks: tuple[tuple[int, int], ...]
    marked: tuple[str, ...]


def gather(job: Job, scanned: Iterable[Scanned]) -> Context:
    """Decide what to judge after all objects were read."""
    done = list(scanned)
    own = {one.one.name for one in done}
    begun = job.state.begun()
    if not own and not begun:
        return Context((), (), ())
    sizes = job.state.registered(own)
    if job.judge_within_days is not None and own:
        reach = job.judge_within_days * 86_400_000
        first = min(one.one.hour_ms for one in done) - reach
        last = max(one.one.hour_ms for one in done) + reach
        near = {name for name in sizes if first <= parse_name(name, job.zone).hour_ms <= last}
        sizes = {name: size for name, size in sizes.items() if name in own | begun | near}
    count = min(BUCKETS, -(-sum(sizes.values()) // REGISTER_BYTES_PER_JUDGEMENT)) or 1
    edges = [BUCKETS * i // count for i in range(count + 1)]
    marked = sorted(((job.state.judged() & sizes.keys()) | begun) - own)
    return Context(tuple(sizes), tuple(itertools.pairwise(edges)), tuple(marked))


def judge_terminals(
    job: Job, names: Iterable[str], first: int, last: int
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Verdicts on the uploads of the terminals in buckets `first` to `last` - 1, by object."""
    registered = job.state.read_register(names, first, last)
    verdicts = judge(registered, job.terminals.bindings.vehicle_at, job.rules)
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
    """What settling did: hours whose minutes changed, and the object's line of the ledger."""

    hours: set[int] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    key: tuple[str, int, str] = ("", 0, "")
    broken: tuple[str, str] | None = None
    own: bool = True


def settle_object(
    job: Job, name: str, scanned: Scanned | None, parts: Iterable[pa.RecordBatch]
) -> SettledObject | None:
    """Write the facts of one object. An object of an earlier run (`scanned` is None) is read
    again, and only if its verdicts changed; None when there is nothing to do."""
    verdicts = _sorted_verdicts(list(parts))
    own = scanned is not None
    before = job.state.record(name)
    if scanned is None:
        if not job.state.is_begun(name) and verdicts.equals(job.state.verdicts(name)):
            return None
        again = _origin(job, before)
        if again is None:
            reason = "verdicts changed, but the archive it came from is gone; its facts stay"
            hours = set(before.hours if before else ())
            return SettledObject(hours, broken=(name, reason), own=False)
        job = again
        scanned = scan(job, parse_name(name, job.zone))
    one = scanned.one
    counts = dict.fromkeys(COUNTS, 0)
    spool = Spool(job, one)
    with (
        TableWriter(job.tables, one.lake_name, job.zone) as facts,
        job.state.partials_writer(one.stem, job.zone) as partials,
    ):
        for prepared in spool.take():
            settled = settle(prepared, verdicts, job.terminals.bindings, job.rules)
            facts.write(f"telemetry_{settled.message_type}", settled.telemetry, settled.event_ms)
            minute_ms = np.asarray(settled.partials.column("minute").cast(pa.int64()))
            partials.write("partials", settled.partials, minute_ms)
            counts["good"] += settled.good
            counts["samples"] += settled.telemetry.num_rows
        record = _record(job, scanned, facts, partials)
        job.state.begin(_either(record, before))
    _delete_stale(job, before, record)
    job.state.write_verdicts(name, verdicts)
    job.state.write_record(record)
    spool.drop()
    counts["dead"], counts["filtered"] = scanned.dead, scanned.filtered
    counts["duplicate"] = int((~_bools(verdicts.column("counts"))).sum())
    counts["duplicate_samples"] = scanned.dropped
    counts["in"] = scanned.uploads + scanned.dead + scanned.filtered
    hours = set(partials.hours) | set(before.hours if before else [])
    broken = (name, scanned.broken) if scanned.broken else None
    key = (one.topic, one.partition, one.hour)
    return SettledObject(hours, counts, key, broken, own)


def _bools(column: pa.Array) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False), bool)


def _sorted_verdicts(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    table = pa.Table.from_batches(parts, VERDICTS).sort_by("line").combine_chunks()
    batches = table.to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=VERDICTS)


def _origin(job: Job, before: ObjectRecord | None) -> Job | None:
    """The job as if it read the archive the object came from; None when that is gone."""
    if before is None:
        return None
    again = replace(job, archive=before.archive, types=tuple(before.types))
    return again if again.topics.child(before.name).exists() else None


def _record(job: Job, scanned: Scanned, facts: TableWriter, partials: TableWriter) -> ObjectRecord:
    state = "_state/"
    files = sorted([*facts.files, *scanned.files, *(state + name for name in partials.files)])
    hours = sorted(partials.hours)
    return ObjectRecord(scanned.one.name, job.archive, list(scanned.types), files, hours)


def _either(record: ObjectRecord, before: ObjectRecord | None) -> ObjectRecord:
    """What an object may have in the lake while `record` takes the place of `before`."""
    if before is None:
        return record
    files = sorted({*record.files, *before.files})
    return replace(record, files=files, hours=sorted({*record.hours, *before.hours}))


def _delete_stale(job: Job, before: ObjectRecord | None, record: ObjectRecord) -> None:
    for stale in sorted(set(before.files if before else ()) - set(record.files)):
        job.tables.delete(stale)


def merge_minutes(job: Job, hour: int) -> int:
    """Write `vehicle_minutes` of a local hour (yyyyMMddHH); returns its rows."""
    parts = list(job.state.partials(hour))
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
    name = f"vehicle_minutes/{hour_folder(hour)}/vehicle-minutes+0+{hour:010d}.parquet"
    rewrite(job.tables, name, table.sort_by([("vehicle_id", "ascending"), ("minute", "ascending")]))
    return int(table.num_rows)
