"""A made-up fleet in numpy: what 500 terminals in Seoul saw and sent, misbehaviour included.

Rows are uploads; per-sample arrays have one line an upload. Everything follows from the seed.
"""

from dataclasses import dataclass

import numpy as np

START = 1_704_067_200_000
TERMINALS = 500
UNBOUND = 10
METRES_PER_DEGREE = 111_195.0
HOUR = 3_600_000


@dataclass(frozen=True)
class Uploads:
    """Columns of uploads in the order of arrival; `samples` maps a key to (uploads, samples).

    `received` is the stamp inside the upload, `arrived` when these bytes came: later in a copy.
    """

    terminal: np.ndarray
    seq: np.ndarray
    received: np.ndarray
    arrived: np.ndarray
    samples: dict[str, np.ndarray]


def device_no(terminal: int) -> str:
    return f"{1_000_000 + terminal:010d}"


def drive(rng: np.random.Generator, trips: int, seconds: int, every: int) -> dict[str, np.ndarray]:
    """Time (ms since the start), position, speed and heading of `trips` cars, (trips, seconds)."""
    shape = (trips, seconds)
    wish = np.repeat(rng.choice([0.0, 30.0, 50.0, 80.0, 105.0], (trips, seconds // 20 + 1)), 20, 1)
    speed = np.empty(shape)
    speed[:, 0] = wish[:, 0]
    for n in range(1, seconds):
        speed[:, n] = speed[:, n - 1] + np.clip(wish[:, n] - speed[:, n - 1], -9, 7)
    speed = np.maximum(speed + rng.normal(0, 0.8, shape) * (speed > 1), 0)
    heading = (rng.uniform(0, 360, (trips, 1)) + np.cumsum(rng.normal(0, 3, shape), 1)) % 360
    metres = speed / 3.6 * every + rng.normal(0, 0.3, shape)
    north = metres * np.cos(np.radians(heading)) / METRES_PER_DEGREE
    east = metres * np.sin(np.radians(heading)) / METRES_PER_DEGREE / np.cos(np.radians(37.5))
    return {
        "ts": np.broadcast_to(np.arange(seconds) * 1000 * every, shape).copy(),
        "lat": 37.5 + rng.uniform(-0.1, 0.1, (trips, 1)) + np.cumsum(north, 1),
        "lon": 127.0 + rng.uniform(-0.1, 0.1, (trips, 1)) + np.cumsum(east, 1),
        "sp": speed,
        "hd": heading,
    }


def misbehave_positions(rng: np.random.Generator, values: dict[str, np.ndarray]) -> None:
    """Zeros, jumps of one to four samples, sentinels and nonsense, each in 1 of 500 to 2,000."""
    flat = {key: value.reshape(-1) for key, value in values.items()}
    size = flat["lat"].size

    def some(share: float) -> np.ndarray:
        return rng.choice(size, int(size * share), replace=False)

    for start in some(1 / 4000):
        flat["lat"][start : start + rng.integers(1, 5)] += 0.5
    zero = some(1 / 500)
    flat["lat"][zero] = flat["lon"][zero] = 0.0
    flat["sp"][some(1 / 1000)] = 255.0
    flat["sp"][some(1 / 2000)] = 301.0


def arrivals(
    rng: np.random.Generator, terminal: np.ndarray, sent: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Receive times (whole seconds) and what terminals' clocks add to device time, in ms.

    One upload in thirty arrives up to six hours late, 1 terminal in 50 runs 10 minutes ahead,
    1 in 250 is two days ahead.
    """
    received = (sent // 1000 + rng.integers(1, 3, sent.size)) * 1000
    late = rng.random(sent.size) < 1 / 30
    received[late] += rng.integers(1, 21_600, int(late.sum())) * 1000
    ahead = np.where(terminal % 50 == 7, 600_000, 0) + np.where(terminal % 250 == 9, 172_800_000, 0)
    return received, ahead


def sort_and_resend(
    rng: np.random.Generator,
    keep: np.ndarray,
    share: float,
    *heads: np.ndarray,
    samples: dict[str, np.ndarray],
) -> Uploads:
    """The kept uploads and copies of a `share` of them, up to six hours later, by arrival."""
    again = rng.choice(keep, int(keep.size * share), replace=False)
    place = np.concatenate([keep, again])
    terminal, seq, received = (head[place] for head in heads)
    arrived = received.copy()
    arrived[keep.size :] += rng.integers(1, 21_600, again.size) * 1000
    order = np.argsort(arrived, kind="stable")
    return Uploads(
        terminal[order],
        seq[order],
        received[order],
        arrived[order],
        {key: value[place[order]] for key, value in samples.items()},
    )


def minutes_of_gps(uploads: int, seed: int, length: int = 60) -> Uploads:
    """`uploads` of `length` one-second positions, 1 in 20 newest first, 1 in 200 with a twin."""
    rng = np.random.default_rng(seed)
    each = -(-uploads // TERMINALS)
    values = drive(rng, TERMINALS, each * length, 1)
    misbehave_positions(rng, values)
    values["alt"] = rng.normal(40, 5, values["lat"].shape)
    values["nos"] = rng.integers(6, 14, values["lat"].shape)
    share = [0.3, 0.4, 0.299, 0.001]
    values["dop"] = rng.choice([0.7, 0.9, 1.1, 99.9], values["lat"].shape, p=share)
    values = {key: value.reshape(TERMINALS * each, length) for key, value in values.items()}
    values["ts"] = values["ts"] + START
    terminal = np.repeat(np.arange(TERMINALS), each)
    seq = np.tile(np.arange(1, each + 1), TERMINALS)
    received, ahead = arrivals(rng, terminal, values["ts"][:, -1])
    values["ts"] = values["ts"] + ahead[:, None]
    twins = rng.choice(terminal.size, terminal.size // 200, replace=False)
    backwards = rng.choice(terminal.size, terminal.size // 20, replace=False)
    for value in values.values():
        value[twins, 1] = value[twins, 0]
        value[backwards] = value[backwards, ::-1]
    keep = rng.permutation(terminal.size)[:uploads]
    return sort_and_resend(rng, keep, 0.02, terminal, seq, received, samples=values)


def reports(uploads: int, seed: int) -> Uploads:
    """`uploads` status reports, one a minute a terminal; ignition flickers, odometers restart."""
    rng = np.random.default_rng(seed)
    each = -(-uploads // TERMINALS)
    values = drive(rng, TERMINALS, each, 60)
    shape = values["lat"].shape
    driven = np.cumsum(values["sp"] / 3.6 * 60, 1)
    swapped = np.arange(each)[None, :] >= rng.integers(each // 2, each * 3, (TERMINALS, 1))
    values["odo"] = (driven + np.where(swapped, 0, 40_000_000)).astype(np.int64)
    values["ign"] = (values["sp"] > 0) ^ (rng.random(shape) < 0.002)
    values["fuel"] = np.clip(90 - driven / 10_000, 5, 100)
    values["bat"] = np.where(values["ign"], 14.1, 12.5) + rng.normal(0, 0.05, shape)
    values["bat"][rng.random(shape) < 0.001] *= 1000
    values["rpm"] = values["sp"] * 30 + 700
    values["ct"] = rng.choice([88, 90, 92, 215], shape, p=[0.3, 0.4, 0.299, 0.001])
    values["rssi"] = rng.integers(-110, -60, shape)
    values["door"] = rng.choice([0, 1, 2], shape, p=[0.98, 0.01, 0.01])
    misbehave_positions(rng, values)
    values["ts"] = values["ts"] + START + rng.integers(0, 60, (TERMINALS, 1)) * 1000
    values = {key: value.reshape(-1, 1) for key, value in values.items()}
    terminal = np.repeat(np.arange(TERMINALS), each)
    seq = np.tile(np.arange(1, each + 1), TERMINALS)
    received, ahead = arrivals(rng, terminal, values["ts"][:, 0])
    values["ts"] = values["ts"] + ahead[:, None]
    keep = rng.permutation(terminal.size)[:uploads]
    return sort_and_resend(rng, keep, 0.02, terminal, seq, received, samples=values)


def bindings(span_ms: int) -> list[tuple[str, str, str, str, int]]:
    """device_no, vehicle_id, valid_from, valid_to, version: every tenth terminal swaps once."""
    since = "2020-01-01T00:00:00Z"
    rows = []
    for n in range(TERMINALS - UNBOUND):
        if n % 10:
            rows.append((device_no(n), f"V{n:05d}", since, "", 1))
            continue
        swap = str(np.datetime64(START + span_ms // 2 + n * 1000, "ms")) + "Z"
        rows.append((device_no(n), f"V{n:05d}", since, swap, 1))
        rows.append((device_no(n), f"W{n:05d}", swap, "", 1))
    return rows
