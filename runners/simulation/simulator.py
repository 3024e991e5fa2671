"""Play a fleet for some hours and write its archive, bindings and truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import orjson

from connectors.kafka.topics import device_topic
from runners.simulation import fleet
from runners.simulation.archive import HOUR_MS, Archive, Line, partition_of
from runners.simulation.misbehaviours import Misbehaviours, Spoiled, chosen
from runners.simulation.terminals import TerminalLife
from runners.simulation.truth import Truth
from runners.simulation.uploads import Upload

FIRST_HOUR = datetime(2024, 1, 15, tzinfo=timezone(timedelta(hours=9)))
SINK_DELAY_MS = 2000


@dataclass(frozen=True, slots=True)
class Summary:
    """What a simulation wrote."""

    out: Path | None
    vehicles: int
    terminals: int
    uploads: int
    dead: int
    duplicates: int
    samples: int
    objects: int
    copied: int


Send = Callable[[list[Line]], None]
"""Is given lines in the order they arrive, hour after hour."""


@dataclass(frozen=True)
class Scenario:
    """A fleet and what it does: `vehicles` for so many `hours` from `start` on, which needs a zone
    and is cut to whole seconds. `misbehave` holds ids such as "M01", or "all"; with misbehaviours
    that need whole terminals the fleet grows to twice their number if it is smaller than that.

    Raises ValueError for a start without zone, or an empty fleet or run.
    """

    vehicles: int
    hours: float
    seed: int
    misbehave: frozenset[str] = frozenset()
    start: datetime = FIRST_HOUR
    partitions: int = 4

    def __post_init__(self) -> None:
        if self.vehicles < 1 or self.hours <= 0 or self.partitions < 1:
            raise ValueError("vehicles, hours and partitions must be positive")
        if self.start.tzinfo is None:
            raise ValueError("start needs a time zone")


def simulate(
    out: Path | None,
    scenario: Scenario,
    progress: Callable[[float], None] | None = None,
    send: Send | None = None,
) -> Summary:
    """Write `out`/archive, `out`/device_binding.csv and `out`/truth.json; nothing where `out` is
    None. `send` gets every line of the archive once, by arrival: objects the old sink wrote twice
    or broke are habits of that sink, and nothing a terminal sent. `progress` gets the share done,
    0 to 1.

    The same scenario writes the same bytes. Raises ValueError for an unknown misbehaviour.
    """
    hours, seed, start = scenario.hours, scenario.seed, scenario.start
    ids = chosen(scenario.misbehave)
    start_ms = int(start.astimezone(UTC).timestamp()) * 1000
    end_ms = start_ms + max(int(hours * 3600), 1) * 1000
    misbehaviours = Misbehaviours(ids, seed, scenario.vehicles, start_ms, end_ms)
    vehicles = misbehaviours.fleet_size
    terminals, bindings = fleet.build(vehicles, seed, start_ms, end_ms, misbehaviours.roles)
    misbehaviours.prepare(terminals, bindings)
    if out is not None:
        (out / "archive" / "topics").mkdir(parents=True, exist_ok=True)
        bindings.write(out / "device_binding.csv")
    archive, truth = Archive(out), Truth(bindings)
    lives = [TerminalLife(terminal, seed, start_ms, end_ms) for terminal in terminals]
    sink = _Sink(archive, truth, scenario.partitions, np.random.default_rng([seed, 4]), send)
    for now in range(start_ms, end_ms, HOUR_MS):
        until = min(now + HOUR_MS, end_ms)
        uploads = [upload for life in lives for upload in life.advance(until)]
        sink.take(misbehaviours.spoil(uploads))
        truth.settle_traces()
        misbehaviours.copy_objects(archive, archive.flush(until))
        sink.send(until)
        if progress is not None:
            progress((until - start_ms) / (end_ms - start_ms))
    for upload in misbehaviours.settle():
        truth.add(upload)
    misbehaviours.copy_objects(archive, archive.flush(None))
    misbehaviours.break_objects(archive)
    sink.send(None)
    ledger = archive.ledger()
    parameters = {
        "vehicles": vehicles,
        "terminals": len(terminals),
        "hours": hours,
        "seed": seed,
        "misbehave": sorted(ids),
        "start": start.isoformat(),
        "partitions": scenario.partitions,
    }
    facts = {
        "parameters": parameters,
        "ledger": ledger,
        "copied": archive.copied,
        "minutes": truth.minutes(),
        "misbehaviours": misbehaviours.report(),
        "objects": ledger["objects"],
        "swaps": fleet.swaps(terminals),
        "samples_per_terminal": truth.samples_per_terminal(),
    }
    if out is not None:
        (out / "truth.json").write_bytes(orjson.dumps(facts))
    totals = ledger["totals"]
    return Summary(
        out, vehicles, len(terminals), totals["in"], totals["dead"], totals["duplicate"],
        totals["samples"], archive.objects, archive.copied,
    )  # fmt: skip


class _Sink:
    """Carries uploads and loose lines to the archive and to whom they are sent, and what they
    mean to the truth."""

    def __init__(
        self,
        archive: Archive,
        truth: Truth,
        partitions: int,
        rng: np.random.Generator,
        send: Send | None,
    ) -> None:
        self._archive, self._truth = archive, truth
        self._partitions, self._rng = partitions, rng
        self._send, self._unsent = send, list[Line]()

    def take(self, spoiled: Spoiled) -> None:
        """Take an hour's uploads and the loose lines among them."""
        delays = self._rng.integers(0, SINK_DELAY_MS, len(spoiled.uploads) + len(spoiled.lines))
        delays = iter(delays.tolist())
        for upload in spoiled.uploads:
            self._put(self._line(upload, upload.arrival + next(delays)))
            if not upload.held:
                self._truth.add(upload)
        for loose in spoiled.lines:
            self._put(loose.placed(self._partitions, next(delays)))

    def send(self, until_ms: int | None) -> None:
        """Send what arrived before `until_ms` (None: all) and was not sent yet."""
        if self._send is None:
            return
        later = [] if until_ms is None else [x for x in self._unsent if x.arrival >= until_ms]
        due = [x for x in self._unsent if until_ms is None or x.arrival < until_ms]
        self._unsent = later
        self._send(sorted(due, key=lambda line: (line.arrival, line.order, line.payload)))

    def _put(self, line: Line) -> None:
        self._archive.put(line)
        if self._send is not None:
            self._unsent.append(line)

    def _line(self, upload: Upload, order: int) -> Line:
        payload, key = upload.encode(), upload.key
        upload.body = {}
        return Line(
            topic=upload.topic or device_topic(upload.kind),
            partition=partition_of(key, self._partitions),
            arrival=upload.arrival,
            order=order,
            payload=payload,
            samples=upload.samples,
            inner_duplicates=upload.inner_duplicates,
            repeats=upload.message_id if upload.repeated else None,
            received=upload.received,
            case=upload.case,
            key=key,
        )
