"""One upload: what a terminal sends, and what is true about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from runners.simulation.fleet import Terminal

ACCEPTED, JUMP, NEW_PLACE = 0, 1, 2


@dataclass(slots=True)
class Trace:
    """The gps samples of one upload in time order, as the rules should see them.

    `time` is true time (epoch ms), `speed` km/h, positions degrees; NaN where a value is missing.
    `place` says ACCEPTED, JUMP, or NEW_PLACE (accepted without distance).
    """

    time: np.ndarray
    speed: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    place: np.ndarray
    flagged: np.ndarray

    def own(self) -> Trace:
        """This trace with its own arrays, so that it may be changed."""
        self.time, self.speed = self.time.copy(), self.speed.copy()
        self.lat, self.lon = self.lat.copy(), self.lon.copy()
        self.place, self.flagged = self.place.copy(), self.flagged.copy()
        return self


@dataclass(slots=True)
class Reading:
    """One sample that is not gps, as the rules should see it; None where a value is missing."""

    time: int
    speed: float | None = None
    lat: float | None = None
    lon: float | None = None
    ignition: bool | None = None
    odometer_m: int | None = None
    battery_v: float | None = None
    fuel_pct: float | None = None
    soc_pct: float | None = None
    counts: str | None = None
    """The event column of the minute this sample adds one to, e.g. harsh_brake_n."""


@dataclass(slots=True, eq=False)
class Upload:
    """One message of a terminal. Times are epoch ms; `sent` and `arrival` are true time."""

    terminal: Terminal
    kind: str
    sent: int
    body: dict[str, Any]
    trace: Trace | None = None
    readings: list[Reading] = field(default_factory=list)
    boot: int = 0
    seq: int = 0
    booted: int = 0
    arrival: int = 0
    flags: set[str] = field(default_factory=set)
    shift: int = 0
    """Expected event time minus true time, ms."""
    fallback: bool = False
    """Every sample takes the receive time."""
    inner_duplicates: int = 0
    repeated: bool = False
    """Other lines carry the same message_id."""
    device_shift: int = 0
    """Device time minus true time, ms."""
    given_id: str | None = None
    case: dict[str, Any] | None = None
    replace: tuple[bytes, bytes] | None = None
    """Bytes of the encoded line to exchange: (old, new)."""
    held: bool = False
    """The expected clock is settled when the run is over."""
    corrected: bool = False
    """The rules put the clock right by an offset."""
    topic: str | None = None
    """Device topic, where it is not the one of the upload's type."""
    untimed: int = 0
    """Samples without device time: rows that are in no trace."""

    @property
    def key(self) -> str:
        """Record key in Kafka: the terminal number as sent."""
        return str(self.body["device_no"])

    @property
    def gps(self) -> Trace:
        """The trace of a gps upload. Raises TypeError for another type."""
        if self.trace is None:
            raise TypeError(f"a {self.kind} upload has no trace")
        return self.trace

    @property
    def message_id(self) -> str:
        """The id the rules give this upload."""
        if self.given_id is None:
            text = f"{self.terminal.device_no}|{self.kind}|{self.boot}|{self.seq}"
            self.given_id = hashlib.sha256(text.encode()).hexdigest()[:32]
        return self.given_id

    @property
    def received(self) -> int:
        """Receive time as the archive tells it: whole seconds, epoch ms."""
        return self.arrival // 1000 * 1000

    @property
    def latest(self) -> int:
        """True time of the newest sample, epoch ms."""
        if self.trace is not None:
            return int(self.trace.time[-1])
        return max(reading.time for reading in self.readings)

    @property
    def samples(self) -> int:
        """Telemetry rows this upload should become."""
        timed = len(self.trace.time) if self.trace is not None else len(self.readings)
        return timed + self.untimed

    @property
    def time_source(self) -> str:
        """Where the rules take the event time from."""
        if self.fallback:
            return "RECEIVED_FALLBACK"
        return "DEVICE_CORRECTED" if self.corrected else "DEVICE"

    @property
    def first_event_time(self) -> int:
        """Expected event time of the first sample, epoch ms."""
        if self.fallback:
            return self.received
        if self.trace is not None:
            return int(self.trace.time[0]) + self.shift
        return min(reading.time for reading in self.readings) + self.shift

    def encode(self) -> bytes:
        """The line of the archive, without its newline."""
        if "timestamp" in self.body:
            self.body["timestamp"] = stamp(self.arrival)
        line = orjson.dumps(self.body)
        return line.replace(*self.replace, 1) if self.replace else line


def stamp(ms: int) -> str:
    """A receive time as the IoT rule writes it: whole seconds, GMT."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SGMT")
