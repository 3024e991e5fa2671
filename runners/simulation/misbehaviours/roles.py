"""A role: a misbehaviour that takes a whole terminal for the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runners.simulation.fleet import Binding, Bindings, ExtraReport, Terminal
from runners.simulation.misbehaviours.cases import Cases
from runners.simulation.uploads import Upload


@dataclass(slots=True)
class Run:
    """The time of the run (epoch ms), its bindings, and vehicles no terminal sat in yet."""

    start_ms: int
    end_ms: int
    bindings: Bindings
    next_vehicle: int

    def spare_vehicle(self) -> int:
        """Index of a vehicle nobody uses."""
        self.next_vehicle += 1
        return self.next_vehicle - 1

    def part(self, share: float) -> int:
        """The instant at a share of the run, whole seconds, epoch ms."""
        return self.start_ms + int((self.end_ms - self.start_ms) / 1000 * share) * 1000


class Role:
    """One terminal's part. `held` roles settle the expected clock when the run is over."""

    mis = ""
    kind = ""
    held = False
    terminal: Terminal
    cases: Cases

    def cast(self, terminal: Terminal, cases: Cases, run: Run) -> None:
        """Take a terminal and plan the run."""
        self.terminal, self.cases = terminal, cases
        self.prepare(run)

    def prepare(self, run: Run) -> None:
        """Plan extra reports and bindings before the run."""

    def spoil(self, upload: Upload) -> None:
        """Change an upload before it is written."""

    def settle(self) -> list[Upload]:
        """Uploads held back, with their expected clock."""
        return []

    def note(self, upload: Upload, kind: str | None = None, **more: Any) -> None:
        """Record what was done to an upload."""
        self.cases.put(self.mis, kind or self.kind, upload, **more)

    def add_boot(self, at_ms: int, change: dict[str, Any]) -> None:
        """Plan a boot report."""
        self.terminal.extras.append(ExtraReport(at_ms, "boot", change))

    def add_log(self, at_ms: int, change: dict[str, Any] | None = None) -> None:
        """Plan a log report besides the regular ones."""
        self.terminal.extras.append(ExtraReport(at_ms, "log", change or {}))

    def rebind(self, bindings: Bindings, rows: list[tuple[int, int, int | None, int]]) -> None:
        """Replace the terminal's bindings by (vehicle, valid_from, valid_to, version)."""
        bindings.remove(self.terminal.device_no)
        for vehicle, since, until, version in rows:
            bindings.add(Binding(self.terminal.device_no, vehicle, since, until, version))
