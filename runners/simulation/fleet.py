"""Vehicles, terminals, and which terminal sat in which vehicle when."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from runners.simulation.times import iso
from runners.simulation.trips import SEOUL, Stay, Trip, plan_day

SWAPPED_SHARE = 0.05
INSTALLED_BEFORE_MS = 200 * 86_400_000
NOBODY = -1


@dataclass(slots=True)
class ExtraReport:
    """A log or boot a terminal sends besides its regular ones; `change` overrides payload keys."""

    time: int
    kind: str
    change: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Terminal:
    """A terminal: who it is and how it is built into its car."""

    index: int
    device_no: str
    firmware: str
    sends_uptime: bool
    calibrated: bool
    electric: bool
    phase_ms: int
    place: tuple[float, float]
    odometers: list[tuple[int, int]]
    """(from epoch ms, reading in metres of the vehicle at the start of the run)."""
    plan: list[Stay | Trip] = field(default_factory=list)
    role: str | None = None
    extras: list[ExtraReport] = field(default_factory=list)
    odometer_drops: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Binding:
    """One row of the binding table; instants are epoch ms, half open."""

    device_no: str
    vehicle: int
    valid_from: int
    valid_to: int | None
    version: int = 1


class Bindings:
    """All binding rows, and what they say of a terminal at an instant."""

    def __init__(self) -> None:
        self.rows: list[Binding] = []
        self._edges: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, row: Binding) -> None:
        """Add a row."""
        self.rows.append(row)
        self._edges.pop(row.device_no, None)

    def remove(self, device_no: str) -> None:
        """Forget a terminal."""
        self.rows = [row for row in self.rows if row.device_no != device_no]
        self._edges.pop(device_no, None)

    def vehicles(self, device_no: str, times: np.ndarray) -> np.ndarray:
        """Vehicle index at each instant (epoch ms); NOBODY where unbound or ambiguous."""
        if device_no not in self._edges:
            self._edges[device_no] = self._resolve(device_no)
        edges, owners = self._edges[device_no]
        return owners[np.searchsorted(edges, times, side="right")]

    def _resolve(self, device_no: str) -> tuple[np.ndarray, np.ndarray]:
        standing: dict[int, Binding] = {}
        for row in self.rows:
            if row.device_no == device_no:
                other = standing.get(row.valid_from)
                if other is None or row.version > other.version:
                    standing[row.valid_from] = row
        edges = sorted(
            {row.valid_from for row in standing.values()}
            | {row.valid_to for row in standing.values() if row.valid_to is not None}
        )
        owners = [NOBODY]
        for edge in edges:
            here = {
                row.vehicle
                for row in standing.values()
                if row.valid_from <= edge and (row.valid_to is None or edge < row.valid_to)
            }
            owners.append(here.pop() if len(here) == 1 else NOBODY)
        return np.array(edges, np.int64), np.array(owners, np.int64)

    def write(self, path: Path) -> None:
        """Write the table as CSV with UTC instants."""
        with path.open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["device_no", "vehicle_id", "valid_from", "valid_to", "binding_version"])
            for row in self.rows:
                since = iso(row.valid_from)
                until = "" if row.valid_to is None else iso(row.valid_to)
                name = vehicle_id(row.vehicle)
                table.writerow([row.device_no, name, since, until, row.version])


def vehicle_id(index: int) -> str:
    """Name of the vehicle with this index."""
    return f"V{index + 1:05d}"


def device_no(index: int) -> str:
    """Number of the terminal with this index: ten digits, every tenth with letters."""
    if index % 10 == 9:
        return f"0SK{3_000_000 + index * 31:07d}"
    return f"{10_2030_000 + index * 37:010d}"


def build(
    vehicles: int, seed: int, start_ms: int, end_ms: int, roles: list[str]
) -> tuple[list[Terminal], Bindings]:
    """A fleet with one terminal a vehicle; the last `len(roles)` terminals play the roles."""
    bindings = Bindings()
    terminals = []
    for index in range(vehicles):
        role_at = index - (vehicles - len(roles))
        role = roles[role_at] if role_at >= 0 else None
        terminal = _terminal(index, seed, start_ms, end_ms, role)
        terminals.append(terminal)
        bindings.add(Binding(terminal.device_no, index, start_ms - INSTALLED_BEFORE_MS, None))
    _swap_some(terminals, bindings, seed, start_ms, end_ms)
    return terminals, bindings


def _terminal(index: int, seed: int, start_ms: int, end_ms: int, role: str | None) -> Terminal:
    rng = np.random.default_rng([seed, 1, index])
    age = rng.random()
    firmware = "STS-1.9.3" if age < 0.05 else "STS-2.5.0" if age > 0.8 else "STS-2.4.1"
    if role is not None:
        firmware = "STS-2.4.1"
    north, east = rng.normal(0, 0.03, 2).tolist()
    return Terminal(
        index=index,
        device_no=device_no(index),
        firmware=firmware,
        sends_uptime=firmware != "STS-1.9.3",
        calibrated=bool(rng.random() >= 0.05),
        electric=bool(rng.random() < 0.15),
        phase_ms=int(rng.integers(101, 899)),
        place=(
            round(SEOUL[0] + north, 6),
            round(SEOUL[1] + east / math.cos(math.radians(SEOUL[0])), 6),
        ),
        odometers=[(0, int(rng.integers(1_000_000, 120_000_000)))],
        plan=plan_day(rng, start_ms // 1000, end_ms // 1000, busy=role is not None or index < 2),
        role=role,
    )


def _swap_some(
    terminals: list[Terminal], bindings: Bindings, seed: int, start_ms: int, end_ms: int
) -> None:
    """Let pairs of terminals exchange their vehicles, mostly while the first one is driving."""
    rng = np.random.default_rng([seed, 2])
    ordinary = [terminal for terminal in terminals if terminal.role is None]
    pairs = max(1, round(len(ordinary) * SWAPPED_SHARE / 2))
    if len(ordinary) < 2:
        return
    chosen = rng.permutation(len(ordinary))[: 2 * pairs]
    for number in range(len(chosen) // 2):
        one, two = (ordinary[chosen[2 * number + side]] for side in (0, 1))
        instant = _swap_instant(rng, one.plan, start_ms, end_ms, exact=number % 2 == 0)
        bindings.remove(one.device_no)
        bindings.remove(two.device_no)
        for terminal, other in ((one, two), (two, one)):
            since = start_ms - INSTALLED_BEFORE_MS
            bindings.add(Binding(terminal.device_no, terminal.index, since, instant, 1))
            bindings.add(Binding(terminal.device_no, other.index, instant, None, 2))
        before = one.odometers[0][1], two.odometers[0][1]
        one.odometers.append((instant, before[1]))
        two.odometers.append((instant, before[0]))


def _swap_instant(
    rng: np.random.Generator, plan: list[Stay | Trip], start_ms: int, end_ms: int, exact: bool
) -> int:
    """An instant within an upload where there is a trip; `exact` puts it on a sample's second."""
    trips = [item for item in plan if isinstance(item, Trip) and item.end_s - item.start_s > 300]
    if not trips:
        return (start_ms + end_ms) // 2
    trip = trips[int(rng.integers(len(trips)))]
    minute = int(rng.integers(2, (trip.end_s - trip.start_s) // 60 - 1))
    inside = trip.start_s + 60 * minute + int(rng.integers(10, 50))
    return inside * 1000 + (0 if exact else 500)


def swaps(terminals: list[Terminal]) -> list[dict[str, str]]:
    """Which terminal moved when."""
    return [
        {"device_no": terminal.device_no, "instant": iso(since)}
        for terminal in terminals
        for since, _ in terminal.odometers[1:]
    ]
