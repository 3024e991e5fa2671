"""What the facts must be: the minutes of every vehicle and the rows of every terminal."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from runners.simulation.fleet import NOBODY, Bindings, vehicle_id
from runners.simulation.minutes import group_samples, merge_partials
from runners.simulation.uploads import JUMP, Reading, Upload

CHATTER_MS = 30_000
REBOOTS, REBOOT_SPAN_MS = 3, 600_000
EVENT_COLUMNS = ("harsh_brake_n", "harsh_accel_n", "harsh_turn_n", "adas_n")


class Truth:
    """Collects what uploads mean and settles the rules that look across a terminal's uploads."""

    def __init__(self, bindings: Bindings) -> None:
        self._bindings = bindings
        self._traces: list[Upload] = []
        self._others: list[tuple[Upload, Reading, int]] = []
        self._partials: list[dict[str, np.ndarray]] = []
        self._rows: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._devices: list[str] = []

    def add(self, upload: Upload) -> None:
        """Take an upload that counts once its clock is settled."""
        self._rows[upload.terminal.device_no][upload.kind] += upload.samples
        if upload.trace is not None:
            if not upload.fallback or upload.samples == 1:
                self._traces.append(upload)
            return
        if upload.fallback and upload.samples > 1:
            return
        for reading in upload.readings:
            at = upload.received if upload.fallback else reading.time + upload.shift
            self._others.append((upload, reading, at))

    def settle_traces(self) -> None:
        """Turn the gps uploads taken so far into minute partials, to free their samples."""
        if not self._traces:
            return
        uploads, self._traces = self._traces, []
        sizes = [len(upload.gps.time) for upload in uploads]
        traces = [upload.gps for upload in uploads]
        events = [
            np.array([upload.received], np.int64)
            if upload.fallback
            else upload.gps.time + upload.shift
            for upload in uploads
        ]
        flagged = [
            np.ones(size, bool) if upload.flags else upload.gps.flagged
            for upload, size in zip(uploads, sizes, strict=True)
        ]
        owners = [
            self._bindings.vehicles(upload.terminal.device_no, event)
            for upload, event in zip(uploads, events, strict=True)
        ]
        speed = np.concatenate([trace.speed for trace in traces])
        self._group(
            uploads,
            {
                "upload": np.repeat(np.arange(len(uploads)), sizes),
                "time": np.concatenate(events),
                "vehicle": np.concatenate(owners),
                "speed": speed,
                "lat": np.concatenate([trace.lat for trace in traces]),
                "lon": np.concatenate([trace.lon for trace in traces]),
                "place": np.concatenate([trace.place for trace in traces]),
                "flagged": np.concatenate(flagged),
                "driving_s": speed >= 5.0,
                "overspeed_s": speed > 110.0,
            },
            steps=True,
        )

    def minutes(self) -> dict[str, list[Any]]:
        """The minutes as columns named like vehicle_minute.avsc."""
        self.settle_traces()
        self._settle_others()
        return merge_partials(self._partials, self._devices, vehicle_id)

    def samples_per_terminal(self) -> dict[str, dict[str, int]]:
        """Telemetry rows by terminal and upload type."""
        return {device: dict(sorted(self._rows[device].items())) for device in sorted(self._rows)}

    def _settle_others(self) -> None:
        self._others.sort(key=lambda other: (other[0].terminal.index, other[2]))
        rows = self._others
        owners = np.full(len(rows), NOBODY, np.int64)
        by_terminal: defaultdict[str, list[int]] = defaultdict(list)
        for number, (upload, _, _) in enumerate(rows):
            by_terminal[upload.terminal.device_no].append(number)
        ignition: list[bool | None] = [None] * len(rows)
        resets = np.zeros(len(rows), bool)
        flagged = np.array([bool(upload.flags) for upload, _, _ in rows], bool)
        for device, numbers in by_terminal.items():
            times = np.array([rows[number][2] for number in numbers], np.int64)
            owners[numbers] = self._bindings.vehicles(device, times)
            logs = [number for number in numbers if rows[number][0].kind == "log"]
            for number in odometer_resets(rows, logs, owners):
                resets[number] = flagged[number] = True
            for number in logs:
                ignition[number] = rows[number][1].ignition
            for number in chatter(rows, logs, ignition):
                flagged[number] = True
            boots = [number for number in numbers if rows[number][0].kind == "boot"]
            flagged[[boots[at] for at in reboot_loop([rows[n][2] for n in boots])]] = True
        uploads = [upload for upload, _, _ in rows]
        readings = [reading for _, reading, _ in rows]
        speed = _numbers(readings, "speed")
        on = np.array([state is True for state in ignition], bool)
        columns = {
            "upload": np.arange(len(rows)),
            "time": np.array([at for _, _, at in rows], np.int64),
            "vehicle": owners,
            "speed": speed.astype(np.float32).astype(np.float64),
            "lat": _numbers(readings, "lat"),
            "lon": _numbers(readings, "lon"),
            "place": np.zeros(len(rows), np.int8),
            "flagged": flagged,
            "odo_resets": resets,
            "ignition_on_s": on * 60,
            "idle_s": (on & (speed < 1.0)) * 60,
            "odo": _numbers(readings, "odometer_m"),
            "battery": _numbers(readings, "battery_v"),
            "fuel": _numbers(readings, "fuel_pct"),
            "soc": _numbers(readings, "soc_pct"),
        }
        for name in EVENT_COLUMNS:
            columns[name] = np.array([reading.counts == name for reading in readings], bool)
        self._group(uploads, columns, steps=False)

    def _group(self, uploads: list[Upload], columns: dict[str, np.ndarray], steps: bool) -> None:
        names = np.array([upload.message_id for upload in uploads], "S32")
        columns["message_id"] = names[columns["upload"]]
        devices = np.array([upload.terminal.index for upload in uploads], np.int64)
        columns["device"] = devices[columns["upload"]]
        for upload in uploads:
            while len(self._devices) <= upload.terminal.index:
                self._devices.append("")
            self._devices[upload.terminal.index] = upload.terminal.device_no
        if len(names):
            self._partials.append(group_samples(columns, steps, JUMP))


def _numbers(readings: list[Reading], name: str) -> np.ndarray:
    values = [getattr(reading, name) for reading in readings]
    return np.array([np.nan if value is None else value for value in values], np.float64)


def odometer_resets(
    rows: list[tuple[Upload, Reading, int]], logs: list[int], owners: np.ndarray
) -> list[int]:
    """M14: logs whose odometer is below the one before, same vehicle."""
    found: list[int] = []
    before: dict[int, int] = {}
    for number in logs:
        odometer, vehicle = rows[number][1].odometer_m, int(owners[number])
        if odometer is None:
            continue
        if vehicle in before and odometer < before[vehicle]:
            found.append(number)
        before[vehicle] = odometer
    return found


def chatter(
    rows: list[tuple[Upload, Reading, int]], logs: list[int], ignition: list[bool | None]
) -> list[int]:
    """M25: logs of a run shorter than 30 s between two opposite ones; `ignition` is put right."""
    known = [number for number in logs if ignition[number] is not None]
    runs: list[list[int]] = []
    for number in known:
        if runs and ignition[runs[-1][0]] == ignition[number]:
            runs[-1].append(number)
        else:
            runs.append([number])
    found = []
    for before, run, after in zip(runs, runs[1:], runs[2:], strict=False):
        if rows[after[0]][2] - rows[run[0]][2] < CHATTER_MS:
            found += run
            for number in run:
                ignition[number] = ignition[before[0]]
    return found


def reboot_loop(times: list[int]) -> list[int]:
    """M24: positions of boots that belong to three or more within ten minutes."""
    found: set[int] = set()
    for first in range(len(times) - REBOOTS + 1):
        if times[first + REBOOTS - 1] - times[first] <= REBOOT_SPAN_MS:
            found |= set(range(first, first + REBOOTS))
    return sorted(found)
