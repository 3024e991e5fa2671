"""docs/rules.md for one message at a time: quality, distance, clock, terminals."""

from collections import defaultdict
from math import asin, cos, radians, sin, sqrt
from statistics import median_low

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
EPOCHS = (0, 315_964_800_000, 946_684_800_000)
WEEK_ROLL = 7168 * DAY
FIELDS = {
    "gps": (
        ("lat", "lat_deg", -90, 90, ()),
        ("lon", "lon_deg", -180, 180, ()),
        ("alt", "altitude_m", -500, 9000, (-777, -236.8)),
        ("sp", "speed_kmh", 0, 300, (255, 410.383, 65535)),
        ("hd", "heading_deg", 0, 360, (65535,)),
        ("dop", "hdop", 0, 99, (99.9, 99.99)),
        ("acc", "accuracy_m", 0, 100_000, (65535,)),
        ("nos", "satellites", 0, 128, (255,)),
    ),
    "log": (
        ("lat", "lat_deg", -90, 90, ()),
        ("lon", "lon_deg", -180, 180, ()),
        ("spd", "speed_kmh", 0, 300, (255, 410.383, 65535)),
        ("odo", "odometer_m", 0, 4_000_000_000, (4_294_967_295,)),
        ("fuel", "fuel_level_pct", 0, 100, (255,)),
        ("soc", "ev_soc_pct", 0, 100, (255,)),
        ("bat", "aux_battery_v", 0, 40, (255, 65535)),
        ("bbat", "backup_battery_v", 0, 40, (255, 65535)),
        ("rpm", "engine_rpm", 0, 16383, (16383.75, 65535)),
        ("ct", "coolant_temp_c", -40, 214, (215, 255)),
        ("cab", "cabin_temp_c", -60, 100, (215, 255)),
        ("hd", "heading_deg", 0, 360, (65535,)),
        ("door", "door_state_bits", 0, 63, (255,)),
        ("rssi", "cell_rssi_dbm", -150, 0, (99, 255)),
    ),
}
PLAIN = {
    "gps": {"ts": "device_time", "fix": "fix_type"},
    "log": {
        "ts": "device_time",
        "ign": "ignition_on",
        "eng": "engine_running",
        "chg": "ev_charging",
        "dopen": "door_open",
        "lock": "locked",
        "hl": "headlamp_on",
        "tp": "tire_pressure_kpa",
        "dtc": "dtc_codes",
    },
}
JSON_NAMES = {kind: {**{f[0]: f[1] for f in FIELDS[kind]}, **PLAIN[kind]} for kind in FIELDS}
COLUMNS = {kind: tuple(names.values()) for kind, names in JSON_NAMES.items()}
VOLTS = ("aux_battery_v", "backup_battery_v")


def quiet_range(lo: float, hi: float, sentinels: tuple) -> tuple[float, float]:
    """The part of the range above or below every sentinel, which needs no further look."""
    for value in sentinels:
        if lo - 0.005 <= value <= hi + 0.005:
            lo, hi = (lo, value - 0.01) if value - lo > hi - value else (value + 0.01, hi)
    return lo, hi


CHECKS = {
    kind: tuple(
        (name, *quiet_range(lo, hi, known), lo, hi, known) for _, name, lo, hi, known in fields
    )
    for kind, fields in FIELDS.items()
}


def in_order(samples: list[dict]) -> list[dict]:
    """Samples by device time, identical ones once."""
    times = [sample["device_time"] for sample in samples]
    if len(set(times)) < len(times):
        seen: list[dict] = []
        for sample in samples:
            if sample not in seen:
                seen.append(sample)
        samples = seen
    return sorted(samples, key=lambda s: s["device_time"])


def clean(sample: dict, kind: str) -> tuple[dict, list[str]]:
    """The sample after sentinels, ranges, zero and stale, and its flags."""
    flags = []
    for name, quiet_lo, quiet_hi, lo, hi, known in CHECKS[kind]:
        value = sample.get(name)
        if value is None or quiet_lo <= value <= quiet_hi:
            continue
        if any(abs(value - sentinel) <= 0.005 for sentinel in known):
            sample[name] = None
            flags.append("SENTINEL")
            continue
        if name in VOLTS and value > 40:
            value = sample[name] = value / 1000
            flags.append("UNIT_GUESSED")
        if not lo <= value <= hi:
            sample[name] = None
            flags.append("OUT_OF_RANGE")
    lat, lon = sample.get("lat_deg"), sample.get("lon_deg")
    if lat is None or lon is None:
        sample["lat_deg"] = sample["lon_deg"] = None
    elif abs(lat) < 1e-6 and abs(lon) < 1e-6:
        sample["lat_deg"] = sample["lon_deg"] = None
        flags.append("GPS_ZERO")
    elif kind == "gps" and (sample.get("satellites") == 0 or sample.get("fix_type") == "NONE"):
        sample["extras"] = {"stale_lat_deg": str(lat), "stale_lon_deg": str(lon)}
        sample["lat_deg"] = sample["lon_deg"] = None
        flags.append("GPS_STALE")
    return sample, flags


def metres(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    a, b = radians(lat1), radians(lat2)
    h = sin((b - a) / 2) ** 2 + cos(a) * cos(b) * sin(radians(lon2 - lon1) / 2) ** 2
    return 2 * 6_371_008.8 * asin(min(1.0, sqrt(h)))


def drive(samples: list[tuple[dict, list]]) -> list[tuple[int, float] | None]:
    """For every sample the accepted one before it and the metres from there; flags jumps."""
    steps: list[tuple[int, float] | None] = []
    at = candidate = None
    streak = 0
    for number, (sample, flags) in enumerate(samples):
        lat, lon, time = sample["lat_deg"], sample["lon_deg"], sample["device_time"]
        here = (number, lat, lon, time, sample.get("speed_kmh"))
        steps.append(None)
        if lat is None:
            continue
        if at is None:
            at = here
            continue
        far = metres(at[1], at[2], lat, lon)
        if far <= 70 * max((time - at[3]) / 1000, 1):
            parked = (
                far < 20
                and at[4] is not None
                and at[4] < 1
                and (here[4] is not None and here[4] < 1)
            )
            steps[-1] = (at[0], 0.0 if parked else far)
            at, streak = here, 0
            continue
        near = streak and metres(candidate[1], candidate[2], lat, lon) <= 70 * max(
            (time - candidate[3]) / 1000, 1
        )
        streak = streak + 1 if near else 1
        candidate = here
        if streak == 3:
            at, streak = here, 0
        else:
            flags.append("GPS_JUMP")
    return steps


def set_clocks(uploads: list) -> None:
    """The clock rules for all uploads of all terminals; boot instants are not looked for."""
    by_terminal = defaultdict(list)
    for upload in uploads:
        by_terminal[upload.device_no].append(upload)
    for own in by_terminal.values():
        own.sort(key=lambda u: (u.received, u.boot, u.seq, u.message_id))
        latest = [u.samples[-1]["device_time"] for u in own]
        zones = zone_shifts(
            [at - u.received for at, u in zip(latest, own, strict=True)],
            latest,
            [u.received for u in own],
        )
        run: list = []
        for upload, at, zone in zip(own, latest, zones, strict=True):
            d = at - upload.received
            if not judge_clock(upload, at, d, zone):
                spread = [*(x for _, x in run), d]
                if max(spread) - min(spread) >= 5000:
                    correct(run)
                    run = []
                run.append((upload, d))
            else:
                correct(run)
                run = []
        correct(run)


def judge_clock(upload, latest: int, d: int, zone: tuple[int, bool]) -> bool:
    """Settle one upload; False where its clock is ahead and its neighbours decide."""
    shift, sure = zone
    if any(-DAY <= latest - epoch <= 30 * DAY for epoch in EPOCHS):
        fall_back(upload, "CLOCK_EPOCH")
    elif -d > WEEK_ROLL - 90 * DAY:
        rolls = -(-(-d - 90 * DAY) // WEEK_ROLL)
        if d + rolls * WEEK_ROLL <= 5 * MINUTE:
            upload.shift, upload.source = -rolls * WEEK_ROLL, "DEVICE_CORRECTED"
            upload.flags.append("GPS_ROLLOVER_CORRECTED")
        else:
            fall_back(upload, "CLOCK_EPOCH")
    elif shift and sure:
        upload.shift, upload.source = shift, "DEVICE_CORRECTED"
        upload.flags.append("TZ_CORRECTED")
    else:
        if shift:
            upload.flags.append("TZ_SUSPECT")
        if d > DAY:
            fall_back(upload, "CLOCK_FUTURE")
        elif d > 5 * MINUTE:
            return False
    return True


def fall_back(upload, flag: str) -> None:
    upload.source = "RECEIVED_FALLBACK"
    upload.flags.append(flag)


def correct(run: list) -> None:
    """Set back a run of three or more equally future clocks; shorter runs fall back."""
    for upload, _ in run:
        fall_back(upload, "CLOCK_FUTURE")
    if len(run) >= 3:
        shift = median_low([d for _, d in run])
        for upload, _ in run:
            upload.shift, upload.source = shift, "DEVICE_CORRECTED"


def zone_shifts(ds: list[int], latest: list[int], received: list[int]) -> list[tuple[int, bool]]:
    """The half-hours each upload is off by, in ms, and whether five neighbours are too."""
    half = HOUR // 2
    off = []
    for d in ds:
        k = round(d / half)
        off.append(k * half if 0 < abs(k) <= 28 and abs(d - k * half) <= 90_000 else 0)
    out, start = [], 0
    for n in range(1, len(off) + 1):
        if n < len(off) and off[n] == off[start]:
            continue
        said = max(latest[start:n]) - min(latest[start:n])
        sure = n - start >= 5 and 2 * (received[n - 1] - received[start]) >= said
        out += [(off[start], sure)] * (n - start)
        start = n
    return out


def judge_terminals(uploads: list, vehicle_at) -> None:
    """Odometer resets and ignition chatter of reports, terminal by terminal in event order."""
    by_terminal = defaultdict(list)
    for upload in uploads:
        sample, flags = upload.samples[0]
        time = (
            upload.received
            if upload.source == "RECEIVED_FALLBACK"
            else sample["device_time"] - upload.shift
        )
        by_terminal[upload.device_no].append((time, upload.message_id, sample, flags))
    for device_no, own in by_terminal.items():
        own.sort(key=lambda report: report[:2])
        odometers: dict[str | None, int] = {}
        runs: list[list] = []
        for time, _, sample, flags in own:
            odometer = sample.get("odometer_m")
            if odometer is not None:
                vehicle = vehicle_at(device_no, time)
                if odometer < odometers.get(vehicle, odometer):
                    flags.append("ODO_RESET")
                odometers[vehicle] = odometer
            ignition = sample.get("ignition_on")
            if ignition is None:
                continue
            if not runs or runs[-1][0] != ignition:
                runs.append([ignition, time, []])
            runs[-1][2].append((sample, flags))
        for before, chatter, after in zip(runs, runs[1:], runs[2:], strict=False):
            if after[1] - chatter[1] < 30_000:
                for sample, flags in chatter[2]:
                    flags.append("IGNITION_CHATTER")
                    sample["_ignition"] = before[0]
