"""What a terminal reports while its car is driven and while it stands."""

from __future__ import annotations

from typing import Any

import numpy as np

from runners.simulation.fleet import ExtraReport, Terminal
from runners.simulation.trips import Drive, Stay, Trip, drive
from runners.simulation.uploads import Reading, Trace, Upload

UPLOAD_SECONDS = 60
DRIVING_LOG_S = 60
PARKED_LOG_S = 600
CLOSEST_LOGS_S = 20
LATENCY_MS = 3000
BOOTS_PER_STAY = 0.05
HARSH = {
    "HARSH_BRAKE": "harsh_brake_n",
    "HARSH_ACCEL": "harsh_accel_n",
    "HARSH_TURN_LEFT": "harsh_turn_n",
    "HARSH_TURN_RIGHT": "harsh_turn_n",
}
OTHER_EVENTS = ("HARSH_LANE_CHANGE", "NONE", "IMPACT")
WARNINGS = ("LDW_LEFT", "LDW_RIGHT", "FCW_CIPV", "FCW_HEADWAY", "PCW", "BSD", "DMS_DROWSY", "NONE")


class TerminalLife:
    """Plays one terminal through the run and hands out its uploads in the order sent."""

    def __init__(self, terminal: Terminal, seed: int, start_ms: int, end_ms: int) -> None:
        self.terminal = terminal
        self._rng = np.random.default_rng([seed, 3, terminal.index])
        self._end = end_ms
        self._todo = list(terminal.plan)
        self._waiting: list[Upload] = []
        self._extras = sorted(terminal.extras, key=lambda extra: extra.time)
        self._lat, self._lon = terminal.place
        self._heading = 0.0
        self._known_logs: list[Upload] = []
        self._travelled = 0.0
        self._energy_pct = float(self._rng.uniform(45, 100))
        self._battery_v = float(self._rng.uniform(12.4, 12.8))
        self._boot = int(self._rng.integers(3, 60))
        self._seq = int(self._rng.integers(10, 5000))
        self._booted = start_ms - int(self._rng.integers(3_600, 400_000)) * 1000

    def advance(self, until_ms: int) -> list[Upload]:
        """Uploads sent before `until_ms` (epoch ms) and not handed out yet.

        A reboot loses the gps upload that was being filled.
        """
        while self._todo and self._todo[0].start_s * 1000 < until_ms:
            item = self._todo.pop(0)
            first = len(self._waiting)
            if isinstance(item, Trip):
                self._drive(item)
            else:
                self._stand(item)
            self._add_extras(item, self._waiting[first:])
        due = [upload for upload in self._waiting if upload.sent < until_ms]
        self._waiting = [upload for upload in self._waiting if upload.sent >= until_ms]
        due.sort(key=lambda upload: (upload.sent, upload.kind))
        late = self._rng.integers(0, LATENCY_MS, len(due)).tolist()
        sent = []
        for upload, latency in zip(due, late, strict=True):
            if upload.trace is not None and upload.trace.time[0] < self._booted:
                continue
            self._number(upload)
            upload.arrival = upload.sent + latency
            sent.append(upload)
        return sent

    def _number(self, upload: Upload) -> None:
        if upload.kind == "boot":
            self._booted = upload.sent - 7000
            self._boot += 1
            self._seq = 0
        self._seq += 1
        upload.boot, upload.seq, upload.booted = self._boot, self._seq, self._booted
        body = upload.body
        body["boot"], body["seq"] = upload.boot, upload.seq
        if self.terminal.sends_uptime:
            body["up"] = (upload.latest - upload.booted) // 1000
        else:
            del body["up"]

    def _upload(self, kind: str, sent: int, content: Any, **facts: Any) -> None:
        body = {
            "device_no": self.terminal.device_no,
            "type": kind,
            "fw": self.terminal.firmware,
            "boot": 0,
            "seq": 0,
            "up": 0,
        }
        if kind in ("log", "boot"):
            body["ts"] = sent
        body["timestamp"] = ""
        body["d" if kind in ("log", "boot") else "data"] = content
        self._waiting.append(Upload(self.terminal, kind, sent, body, **facts))

    def _drive(self, trip: Trip) -> None:
        seconds = trip.end_s - trip.start_s
        route = drive(self._rng, seconds, self._lat, self._lon)
        self._send_gps(trip, route)
        volts = float(self._rng.uniform(13.7, 14.4))
        marks = [*range(0, max(seconds - CLOSEST_LOGS_S, 1), DRIVING_LOG_S), seconds - 1]
        for second in marks:
            on = second != seconds - 1
            self._log((trip.start_s + second) * 1000, route, second, on, volts)
        self._send_events(trip, route)
        travelled = float(route.travelled_m[-1])
        self._travelled += travelled
        self._energy_pct = max(self._energy_pct - travelled / 6_500.0, 4.0)
        if self._energy_pct < 15:
            self._energy_pct = 97.0
        self._battery_v = 12.75
        self._lat, self._lon = float(route.lat_deg[-1]), float(route.lon_deg[-1])
        self._heading = float(route.heading_deg[-1])

    def _send_gps(self, trip: Trip, route: Drive) -> None:
        seconds = trip.end_s - trip.start_s
        time = (trip.start_s + np.arange(seconds, dtype=np.int64)) * 1000
        nos = 9 + (6 * self._rng.random(seconds // 5 + 1)).astype(np.int64).repeat(5)[:seconds]
        dop = np.round(12.0 / nos, 1)
        rows = [
            {
                "ts": ts, "lat": lat, "lon": lon, "alt": alt, "sp": sp, "hd": hd,
                "nos": n, "dop": d, "acc": acc, "fix": 3,
            }
            for ts, lat, lon, alt, sp, hd, n, d, acc in zip(
                time.tolist(), route.lat_deg.tolist(), route.lon_deg.tolist(),
                route.altitude_m.tolist(), route.speed_kmh.tolist(), route.heading_deg.tolist(),
                nos.tolist(), dop.tolist(), np.round(dop * 2.5, 1).tolist(), strict=True,
            )
        ]  # fmt: skip
        speed = route.speed_kmh.astype(np.float32).astype(np.float64)
        place, flagged = np.zeros(seconds, np.int8), np.zeros(seconds, bool)
        for first in range(0, seconds, UPLOAD_SECONDS):
            part = slice(first, first + UPLOAD_SECONDS)
            trace = Trace(
                time[part], speed[part], route.lat_deg[part], route.lon_deg[part],
                place[part], flagged[part],
            )  # fmt: skip
            self._upload("gps", int(trace.time[-1]), rows[part], trace=trace)

    def _log(self, at: int, route: Drive, second: int, on: bool, volts: float) -> None:
        kmh = round(float(route.speed_kmh[second])) if on else 0
        travelled = float(route.travelled_m[second])
        self._lat, self._lon = float(route.lat_deg[second]), float(route.lon_deg[second])
        self._heading = float(route.heading_deg[second])
        energy = max(self._energy_pct - travelled / 6_500.0, 4.0)
        self._report(
            at, on, kmh, self._travelled + travelled, round(energy, 1), round(volts, 2),
            coolant=20 + min(second / 6, 70),
        )  # fmt: skip

    def _stand(self, stay: Stay) -> None:
        first = stay.start_s + (
            PARKED_LOG_S if self._waiting or self._travelled else int(self._rng.integers(1, 600))
        )
        last = min(stay.end_s - CLOSEST_LOGS_S, self._end // 1000)
        for second in range(first, last, PARKED_LOG_S):
            self._battery_v = max(self._battery_v - 0.003, 11.9)
            self._report(
                second * 1000, False, 0, self._travelled, round(self._energy_pct, 1),
                round(self._battery_v, 2), coolant=20,
            )  # fmt: skip
        if stay.end_s - stay.start_s > 2400 and self._rng.random() < BOOTS_PER_STAY:
            self._boot_report((stay.start_s + stay.end_s) // 2 * 1000, {})

    def _report(
        self, at: int, on: bool, kmh: int, travelled: float, energy: float, volts: float,
        coolant: float,
    ) -> None:  # fmt: skip
        terminal = self.terminal
        at += terminal.phase_ms
        odometer = int(travelled) + next(
            reading for since, reading in reversed(terminal.odometers) if at >= since
        )
        odometer -= sum(drop for since, drop in terminal.odometer_drops if at >= since)
        tick = at // 60_000
        content: dict[str, Any] = {
            "lat": self._lat, "lon": self._lon, "ign": on, "spd": kmh, "odo": odometer,
            "bat": volts, "bbat": 4.02, "hd": self._heading, "door": 0 if on else tick % 7 // 6,
            "lock": not on, "hl": on and (at // 3_600_000 + 9) % 24 not in range(7, 19),
            "cab": 18.5 if on else 6.0, "rssi": -60 - tick % 41,
        }  # fmt: skip
        if terminal.electric:
            content |= {"soc": energy, "chg": not on and tick % 3 == 0}
        else:
            content |= {"eng": on, "fuel": energy, "ct": int(coolant)}
            content["rpm"] = (750 + kmh * 21) if on else 0
        if tick % 10 == 0:
            content |= {"tp": [235, 236, 231.5, 233], "dopen": False}
            content["dtc"] = ["P0420"] if tick % 100 == 0 else []
        reading = Reading(
            at, float(kmh), self._lat, self._lon, on, odometer, volts,
            None if terminal.electric else energy, energy if terminal.electric else None,
        )  # fmt: skip
        self._upload("log", at, content, readings=[reading])

    def _boot_report(self, at: int, change: dict[str, Any]) -> None:
        at += self.terminal.phase_ms
        content: dict[str, Any] = {
            "rsn": "OTA", "pup": 86_000, "bat": round(self._battery_v, 2), "rtc": True,
            "hw": "H3", "mfw": "EC25-R07", "iccid": f"8982{self.terminal.index:015d}",
            "vin": f"KMHD{self.terminal.index:013d}", "pend": 0,
        } | change  # fmt: skip
        reading = Reading(at, battery_v=content["bat"])
        self._upload("boot", at, content, readings=[reading])

    def _add_extras(self, item: Stay | Trip, beside: list[Upload]) -> None:
        logs = [upload for upload in beside if upload.kind == "log"]
        known = logs or self._known_logs
        while self._extras and self._extras[0].time < item.end_s * 1000:
            extra = self._extras.pop(0)
            if extra.kind == "boot":
                self._boot_report(extra.time - self.terminal.phase_ms, extra.change)
            elif known:
                self._repeat_log(min(known, key=lambda log: abs(log.sent - extra.time)), extra)
        self._known_logs = known[-1:]

    def _repeat_log(self, near: Upload, extra: ExtraReport) -> None:
        reading = near.readings[0]
        content = near.body["d"] | extra.change
        changed = Reading(
            extra.time, reading.speed, reading.lat, reading.lon,
            content["ign"], reading.odometer_m, reading.battery_v,
            reading.fuel_pct, reading.soc_pct,
        )  # fmt: skip
        self._upload("log", extra.time, content, readings=[changed])

    def _send_events(self, trip: Trip, route: Drive) -> None:
        moving = np.flatnonzero(route.speed_kmh > 15)
        if len(moving) == 0:
            return
        for kind, mean_s in (("kinematic", 1500), ("adas", 1000)):
            number = int(self._rng.poisson((trip.end_s - trip.start_s) / mean_s))
            for second in sorted(set(self._rng.choice(moving, number).tolist())):
                at = (trip.start_s + second) * 1000 + self.terminal.phase_ms % 97 + 1
                where = {
                    "ts": at, "lat": float(route.lat_deg[second]),
                    "lon": float(route.lon_deg[second]), "sp": float(route.speed_kmh[second]),
                }  # fmt: skip
                make = self._kinematic if kind == "kinematic" else self._adas
                sample, reading = make(where)
                self._upload(kind, at, [sample], readings=[reading])

    def _kinematic(self, where: dict[str, Any]) -> tuple[dict[str, Any], Reading]:
        rng = self._rng
        events = [*HARSH, *OTHER_EVENTS]
        event = events[int(rng.choice(len(events), p=(0.35, 0.2, 0.12, 0.12, 0.1, 0.09, 0.02)))]
        ax = {"HARSH_BRAKE": -3.6, "HARSH_ACCEL": 2.9}.get(event, 0.4)
        ay = {"HARSH_TURN_LEFT": 3.8, "HARSH_TURN_RIGHT": -3.8}.get(event, 0.2)
        sample = where | {
            "ev": event, "eid": f"e{where['ts'] % 1_000_000_007}",
            "dur": int(rng.integers(300, 1800)),
            "ax": ax, "ay": ay, "az": 0.3, "yaw": round(ay * 4, 1), "hz": 10,
            "vx": [ax, ax / 2], "vy": [ay, ay / 2], "vz": [0.3, 0.1],
            "cal": self.terminal.calibrated,
        }  # fmt: skip
        counts = HARSH.get(event) if self.terminal.calibrated else None
        return sample, Reading(where["ts"], where["sp"], counts=counts)

    def _adas(self, where: dict[str, Any]) -> tuple[dict[str, Any], Reading]:
        warning = WARNINGS[int(self._rng.integers(len(WARNINGS)))]
        sample = where | {
            "warn": warning, "sev": 1 + int(self._rng.integers(3)), "hw": 22.5, "ttc": 2.1,
            "ldl": 0.4, "ldr": 1.2, "turn": "NONE", "brk": warning == "PCW", "cam": False,
        }  # fmt: skip
        counts = None if warning == "NONE" else "adas_n"
        return sample, Reading(where["ts"], where["sp"], counts=counts)
