"""docs/rules.md, section 8, for one sample at a time: the minutes of the per-message way."""

MINUTE = 60_000


class Minute:
    """What one vehicle did in one minute."""

    __slots__ = (
        "battery_min",
        "devices",
        "distance",
        "driving",
        "first_place",
        "first_time",
        "flagged",
        "idle",
        "ignition",
        "last",
        "last_place",
        "last_time",
        "minute",
        "odo_first",
        "odo_last",
        "overspeed",
        "resets",
        "samples",
        "speed_max",
        "speed_min",
        "speed_n",
        "speed_sum",
        "sumsq",
        "uploads",
        "vehicle",
    )

    def __init__(self, vehicle: str, minute: int):
        self.vehicle, self.minute = vehicle, minute
        self.devices: set[str] = set()
        self.uploads: set[str] = set()
        self.samples = self.flagged = self.speed_n = self.resets = 0
        self.driving = self.idle = self.ignition = self.overspeed = 0
        self.speed_sum = self.sumsq = self.distance = 0.0
        self.speed_min = self.speed_max = self.battery_min = None
        self.first_time = self.last_time = self.first_place = self.last_place = None
        self.odo_first = self.odo_last = None
        self.last: dict = {}

    def add(self, sample: dict, flags: list[str], time: int, upload, kind: str) -> None:
        self.devices.add(upload.device_no)
        self.uploads.add(upload.message_id)
        self.samples += 1
        jump = False
        if flags:
            self.flagged += 1
            jump = "GPS_JUMP" in flags
        speed = sample.get("speed_kmh")
        if speed is not None:
            self.speed_n += 1
            self.speed_sum += speed
            self.sumsq += speed * speed
            if self.speed_min is None or speed < self.speed_min:
                self.speed_min = speed
            if not jump and (self.speed_max is None or speed > self.speed_max):
                self.speed_max = speed
        at = (time, upload.message_id)
        if self.first_time is None or time < self.first_time:
            self.first_time = time
        if self.last_time is None or time > self.last_time:
            self.last_time = time
        if sample["lat_deg"] is not None and not jump:
            if self.first_place is None or at < self.first_place[0]:
                self.first_place = (at, sample["lat_deg"], sample["lon_deg"])
            if self.last_place is None or at >= self.last_place[0]:
                self.last_place = (at, sample["lat_deg"], sample["lon_deg"])
        if kind == "log":
            self.add_report(sample, flags, at, speed)
        elif speed is not None:
            self.driving += speed >= 5
            self.overspeed += speed > 110

    def add_report(self, sample: dict, flags: list[str], at: tuple, speed: float | None) -> None:
        self.resets += "ODO_RESET" in flags
        odometer = sample.get("odometer_m")
        if odometer is not None:
            if self.odo_first is None or at < self.odo_first[0]:
                self.odo_first = (at, odometer)
            if self.odo_last is None or at >= self.odo_last[0]:
                self.odo_last = (at, odometer)
        if sample.pop("_ignition", sample.get("ignition_on")):
            self.ignition += 60
            if speed is not None and speed < 1:
                self.idle += 60
        volts = sample.get("aux_battery_v")
        if volts is not None and (self.battery_min is None or volts < self.battery_min):
            self.battery_min = volts
        for name in ("aux_battery_v", "fuel_level_pct", "ev_soc_pct"):
            value = sample.get(name)
            if value is not None and (name not in self.last or at >= self.last[name][0]):
                self.last[name] = (at, value)

    def row(self) -> dict:
        last = {name: value for name, (_, value) in self.last.items()}
        first_place, last_place = self.first_place or (None,) * 3, self.last_place or (None,) * 3
        return {
            "vehicle_id": self.vehicle,
            "minute": self.minute * MINUTE,
            "revision": 0,
            "device_nos": sorted(self.devices),
            "n_uploads": len(self.uploads),
            "n_samples": self.samples,
            "n_flagged": self.flagged,
            "speed_min_kmh": self.speed_min,
            "speed_max_kmh": self.speed_max,
            "speed_sum_kmh": self.speed_sum,
            "speed_n": self.speed_n,
            "speed_sumsq": self.sumsq,
            "distance_gps_m": self.distance,
            "odo_resets": self.resets,
            "odo_first_m": self.odo_first and self.odo_first[1],
            "odo_last_m": self.odo_last and self.odo_last[1],
            "driving_s": self.driving,
            "idle_s": self.idle,
            "ignition_on_s": self.ignition,
            "overspeed_s": self.overspeed,
            "aux_battery_min_v": self.battery_min,
            "aux_battery_last_v": last.get("aux_battery_v"),
            "fuel_last_pct": last.get("fuel_level_pct"),
            "soc_last_pct": last.get("ev_soc_pct"),
            "first_time": self.first_time,
            "last_time": self.last_time,
            "first_lat_deg": first_place[1],
            "first_lon_deg": first_place[2],
            "last_lat_deg": last_place[1],
            "last_lon_deg": last_place[2],
        }
