"""Terminals with odd habits: hour edges, odometer, unbound, rebound, reboots, names (M09 - M26)."""

from __future__ import annotations

from runners.simulation.fleet import INSTALLED_BEFORE_MS, Binding
from runners.simulation.misbehaviours.roles import Role, Run
from runners.simulation.trips import Stay, Trip
from runners.simulation.uploads import Upload

HOUR_MS = 3_600_000
SEOUL_MS = 9 * HOUR_MS


class HourEdges(Role):
    """M09: logs at the last millisecond of an hour and the first of the next, in Seoul."""

    mis = "M09"

    def prepare(self, run: Run) -> None:
        """Plan two logs at every edge in the run, the day's edge among them."""
        for edge in range(run.start_ms // HOUR_MS * HOUR_MS, run.end_ms + 1, HOUR_MS):
            for at in (edge - 1, edge):
                if run.start_ms <= at < run.end_ms:
                    self.add_log(at)

    def spoil(self, upload: Upload) -> None:
        """Note edge logs, and gps uploads with samples on both sides."""
        last = upload.latest + SEOUL_MS
        day = last % (24 * HOUR_MS) in (0, 24 * HOUR_MS - 1)
        if upload.kind == "log" and last % HOUR_MS in (0, HOUR_MS - 1):
            self.note(upload, "day_edge" if day else "hour_edge")
        elif upload.trace is not None:
            first = int(upload.trace.time[0]) + SEOUL_MS
            if first // HOUR_MS != last // HOUR_MS:
                self.note(upload, "gps_across_the_edge")


class OdometerReset(Role):
    """M14: the odometer falls back twice."""

    mis, kind = "M14", "odometer_decreases"

    def prepare(self, run: Run) -> None:
        """Plan the two falls."""
        self.terminal.odometer_drops = [(run.part(0.35), 800_000), (run.part(0.7), 120_000)]
        self._open = [since for since, _ in self.terminal.odometer_drops]

    def spoil(self, upload: Upload) -> None:
        """Note the first log after each fall."""
        if upload.kind == "log" and self._open and upload.sent >= self._open[0]:
            self._open.pop(0)
            self.note(upload, flags=["ODO_RESET"])


class Unbound(Role):
    """M21: a terminal no row of the bindings knows."""

    mis, kind = "M21", "unbound"

    def prepare(self, run: Run) -> None:
        """Forget the terminal."""
        run.bindings.remove(self.terminal.device_no)

    def spoil(self, upload: Upload) -> None:
        """Every upload stays without a vehicle."""
        self.note(upload, binding_status="UNBOUND")


class Overlap(Role):
    """M22: two vehicles claim the terminal for a fifth of the run."""

    mis, kind = "M22", "overlap"

    def prepare(self, run: Run) -> None:
        """Add a second row that overlaps the first."""
        self._from, self._to = run.part(0.4), run.part(0.6)
        self.rebind(
            run.bindings,
            [
                (self.terminal.index, run.start_ms - INSTALLED_BEFORE_MS, None, 1),
                (run.spare_vehicle(), self._from, self._to, 2),
            ],
        )

    def spoil(self, upload: Upload) -> None:
        """Note uploads with their newest sample in the overlap."""
        if self._from <= upload.latest < self._to:
            self.note(upload, binding_status="AMBIGUOUS", overlap=[self._from, self._to])


class Correction(Role):
    """M22: a swap was booked to the wrong vehicle; a later version of the row puts it right."""

    mis, kind = "M22", "correction"

    def prepare(self, run: Run) -> None:
        """Write the wrong row and its correction."""
        self._swap = run.part(0.3)
        right = run.spare_vehicle()
        self.rebind(
            run.bindings,
            [
                (self.terminal.index, run.start_ms - INSTALLED_BEFORE_MS, self._swap, 1),
                (run.spare_vehicle(), self._swap, None, 1),
                (right, self._swap, None, 2),
            ],
        )

    def spoil(self, upload: Upload) -> None:
        """Note uploads the correction concerns."""
        if upload.latest >= self._swap:
            self.note(upload, binding_status="BOUND", binding_version=2)


class RebootLoop(Role):
    """M24: cranking pulls the voltage down and the terminal boots four times in a row."""

    mis, kind = "M24", "reboot_loop"

    def prepare(self, run: Run) -> None:
        """Plan a loop every four hours."""
        first = run.part(0.15)
        for start in range(first, run.end_ms - 240_000, 4 * HOUR_MS):
            for number in range(4):
                self.add_boot(start + number * 50_000, {"rsn": "BROWN_OUT", "bat": 9.3, "pup": 43})

    def spoil(self, upload: Upload) -> None:
        """Note the boots."""
        if upload.kind == "boot":
            self.note(upload, flags=["REBOOT_LOOP"])


class IgnitionChatter(Role):
    """M25: ignition seems off for twelve seconds while driving, or on while parked."""

    mis = "M25"
    BLIP_MS = 12_000

    def prepare(self, run: Run) -> None:
        """Plan a blip in every long trip and in every stay after the first trip."""
        self._blips: dict[int, str] = {}
        driven = False
        for item in self.terminal.plan:
            length = item.end_s - item.start_s
            if isinstance(item, Trip) and length > 420:
                self._blip((item.start_s + 265) * 1000 + 50, False)
            elif isinstance(item, Stay) and driven and 200 < length < 600:
                self._blip((item.start_s + 100) * 1000 + 50, True)
            driven = driven or isinstance(item, Trip)

    def _blip(self, at: int, ignition: bool) -> None:
        self.add_log(at, {"ign": ignition})
        self.add_log(at + self.BLIP_MS, {"ign": not ignition})
        self._blips[at] = "on_while_parked" if ignition else "off_while_driving"

    def spoil(self, upload: Upload) -> None:
        """Note the report that lies."""
        kind = self._blips.get(upload.sent)
        if kind and upload.kind == "log":
            self.note(upload, kind, flags=["IGNITION_CHATTER"])


class OddName(Role):
    """M26: every second upload spells the terminal's number in another way."""

    mis = "M26"

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self._count = kind, 0

    def prepare(self, run: Run) -> None:
        """A number with letters for lower case, only digits where a JSON number is sent."""
        terminal = self.terminal
        run.bindings.remove(terminal.device_no)
        pattern = "0SL{:07d}" if self.kind == "lower_case" else "0777{:06d}"
        terminal.device_no = pattern.format(terminal.index)
        since = run.start_ms - INSTALLED_BEFORE_MS
        run.bindings.add(Binding(terminal.device_no, terminal.index, since, None))

    def spoil(self, upload: Upload) -> None:
        """Write the number differently."""
        self._count += 1
        if self._count % 2:
            return
        number = self.terminal.device_no
        spelled = {"lower_case": number.lower(), "padded": f"  {number} "}
        upload.body["device_no"] = spelled.get(self.kind) or int(number)
        if self.kind == "numeric":
            upload.flags.add("TYPE_COERCED")
        self.note(upload, sent_as=upload.body["device_no"])
