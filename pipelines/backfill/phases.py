"""The steps of a backfill as phases for a cluster without shuffles of its own: a phase is
numbered items, each done by any worker, any number of times, with the same outcome.

The client puts them together between the phases. Verdicts wait in the spool, in one file a
judgement; what travels is where in it an object's verdicts lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from connectors.archive.names import ArchiveObject
from connectors.lake.compact import take_out
from pipelines.backfill import ledger
from pipelines.backfill.day_loads import Load, loads
from pipelines.backfill.deliver_rows import load
from pipelines.backfill.read import scan
from pipelines.backfill.spec import BackfillSpec, Scanned
from pipelines.backfill.steps import (
    SettledObject,
    gather,
    judge_terminals,
    merge_minutes,
    settle_object,
)
from pipelines.backfill.work_items import WorkItems

Spread = Callable[[str, int], None]
"""Has `work` done for a phase's items 0 to n - 1, and returns when all are."""


@dataclass(frozen=True)
class Judgement:
    """Terminals of a range of buckets; `number` is its place among all."""

    number: int
    first: int
    last: int


@dataclass(frozen=True)
class Piece:
    """Where verdicts on an object lie: a file of the spool, and bytes of it."""

    file: str
    start: int
    size: int


@dataclass(frozen=True)
class Settling:
    """An object to settle, and its verdicts."""

    name: str
    scanned: Scanned | None
    pieces: tuple[Piece, ...]


def run(spec: BackfillSpec, sources: Iterable[ArchiveObject], spread: Spread) -> dict[str, Any]:
    """The whole backfill; returns its ledger."""

    def phase(name: str, items: Iterable[Any], shared: Any = None) -> Iterator[Any]:
        work_items = work_items_of(spec, name)
        count = work_items.put(items, shared)
        if count:
            spread(name, count)
        return work_items.results(count)

    scanned = [one for found in phase("read", sources) for one in found]
    context = gather(spec, scanned)
    tasks = [Judgement(number, *task) for number, task in enumerate(context.tasks)]
    pieces: dict[str, list[Piece]] = {name: [] for name in context.marked}
    for found in phase("judge", tasks, context.names):
        for name, piece in found:
            pieces.setdefault(name, []).append(piece)
    sums, hours, places = ledger.nothing(), set(), set()
    for settled in phase("settle", _settlings(scanned, pieces)):
        if settled is not None:
            sums = ledger.add(sums, settled)
            hours |= settled.hours
            places |= settled.places
    minutes = sum(phase("minutes", sorted(hours)))
    for _ in phase("tidy", sorted(places)):
        pass
    for _ in phase("load", loads(spec)):
        pass
    spec.state.finish()
    return {**ledger.ledger(sums), "vehicle_minutes": minutes}


def work(spec: BackfillSpec, phase: str, number: int, shared: Any) -> None:
    """Do one item of a phase, unless that was done before a worker was lost. `shared` is what
    `work_items_of(spec, phase).shared()` returned."""
    work_items = work_items_of(spec, phase)
    if not work_items.is_done(number):
        work_items.keep(number, PHASES[phase](spec, work_items.item(number), shared))


def work_items_of(spec: BackfillSpec, phase: str) -> WorkItems:
    """Items and results of a phase."""
    return WorkItems(spec.scratch.child(f"phases/{phase}"))


def _settlings(scanned: list[Scanned], pieces: dict[str, list[Piece]]) -> Iterator[Settling]:
    own = {one.one.name: one for one in scanned}
    for name in sorted(own.keys() | pieces.keys()):
        yield Settling(name, own.get(name), tuple(pieces.get(name, ())))


def read(spec: BackfillSpec, source: ArchiveObject, _: None) -> list[Scanned]:
    """Step 1 on one object."""
    return scan(spec, source)


def judge(spec: BackfillSpec, task: Judgement, names: tuple[str, ...]) -> list[tuple[str, Piece]]:
    """Step 2 on one range of buckets of terminals."""
    file = f"phases/verdicts/{task.number:06d}"
    pieces = []
    with spec.scratch.whole(file) as stream:
        at = 0
        for name, verdicts in judge_terminals(spec, names, task.first, task.last):
            packed = pa.BufferOutputStream()
            with pa.ipc.new_stream(packed, verdicts.schema) as writer:
                writer.write_batch(verdicts)
            data = packed.getvalue()
            stream.write(data)
            pieces.append((name, Piece(file, at, data.size)))
            at += data.size
    return pieces


def settle(spec: BackfillSpec, task: Settling, _: None) -> SettledObject | None:
    """Step 3 on one object. Settling empties the object's spool, so a worker that is lost in
    the midst of it leaves too little there: what was begun is read again."""
    scanned = task.scanned
    if scanned is not None and spec.state.is_begun(task.name):
        scanned = next(one for one in scan(spec, scanned.one) if one.one.name == task.name)
    return settle_object(spec, task.name, scanned, _verdicts(spec, task.pieces))


def _verdicts(spec: BackfillSpec, pieces: Iterable[Piece]) -> Iterator[pa.RecordBatch]:
    for piece in pieces:
        data = spec.scratch.read_part(piece.file, piece.start, piece.size)
        with pa.ipc.open_stream(data) as stream:
            yield from stream


def minutes(spec: BackfillSpec, hour: int, _: None) -> int:
    """Step 4 on one hour."""
    return merge_minutes(spec, hour)


def tidy(spec: BackfillSpec, place: str, _: None) -> None:
    """Merged objects of a folder of a table give way to what was settled."""
    take_out(spec.tables, place)


def hand_on(spec: BackfillSpec, waiting: Load, _: None) -> None:
    """Step 5 on one day of a table: stores that take whole days get its rows."""
    load(spec, waiting)


PHASES: dict[str, Callable[[BackfillSpec, Any, Any], Any]] = {
    "read": read,
    "judge": judge,
    "settle": settle,
    "minutes": minutes,
    "tidy": tidy,
    "load": hand_on,
}
