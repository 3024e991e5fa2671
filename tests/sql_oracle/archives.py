"""Archives to check against: CapMetrics days as the old sink wrote them, whole or spoiled."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
DAYS = ("2015-03-07", "2015-03-19", "2016-11-26")


def capmetrics_archive(out: Path, day: str, *options: str) -> Path:
    """Write one day with every twentieth upload sent twice; returns the archive folder."""
    command = [
        sys.executable,
        DATA / "capmetrics_to_archive.py",
        DATA / "capmetrics" / f"{day}.csv.gz",
        out,
        "--duplicate",
        "0.05",
        *options,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return out


def spoil(archive: Path, seed: int) -> None:
    """Damage a third of the uploads; copies of an upload stay copies of it.

    Zeros, jumps of one to five samples, sentinels, values out of range, stale fixes, samples out
    of order or twice, and clocks that run ahead.
    """
    for path in sorted(archive.glob("topics/message-gps/*/*/*/*/*.json.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as source:
            uploads = [json.loads(line) for line in source]
        for upload in uploads:
            rng = random.Random(f"{seed} {upload['device_no']} {upload['seq']}")
            if rng.random() < 1 / 3:
                rng.choice(DAMAGES)(upload["data"], rng)
            if int(upload["device_no"]) % 10 == 3 and upload["seq"] % 9 > 2:
                run_ahead(upload["data"], upload["seq"])
        with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as target:
            target.writelines(json.dumps(upload) + "\n" for upload in uploads)


def zero(samples: list[dict], rng: random.Random) -> None:
    rng.choice(samples).update(lat=0.0, lon=0.0)


def jump(samples: list[dict], rng: random.Random) -> None:
    start, length = rng.randrange(len(samples)), rng.randint(1, 5)
    east = rng.uniform(2, 9)
    for sample in samples[start : start + length]:
        sample["lon"] += east


def scatter(samples: list[dict], rng: random.Random) -> None:
    for sample in samples[len(samples) // 3 :]:
        sample["lat"] += rng.choice((0, 0, 3, -3))


def sentinel(samples: list[dict], rng: random.Random) -> None:
    rng.choice(samples).update(sp=rng.choice((255, 65535, 410.383)), hd=65535)


def out_of_range(samples: list[dict], rng: random.Random) -> None:
    wrong = ({"sp": 301}, {"sp": -1}, {"lat": 91.5}, {"lon": -180.5})
    rng.choice(samples).update(rng.choice(wrong))


def stale(samples: list[dict], rng: random.Random) -> None:
    rng.choice(samples).update(rng.choice(({"nos": 0}, {"fix": 0}, {"fix": 1})))


def shuffle(samples: list[dict], rng: random.Random) -> None:
    rng.shuffle(samples)


def repeat(samples: list[dict], rng: random.Random) -> None:
    samples += [dict(rng.choice(samples)) for _ in range(3)]


def run_ahead(samples: list[dict], seq: int) -> None:
    """Ten minutes ahead and steady, or drifting a second an upload, or two days ahead."""
    ahead = (600_000, 600_000 + 1_000 * seq, 172_800_000)[seq // 9 % 3]
    for sample in samples:
        sample["ts"] += ahead


DAMAGES = (zero, jump, scatter, sentinel, out_of_range, stale, shuffle, repeat)
