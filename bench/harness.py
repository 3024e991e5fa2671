"""Runs contenders, each in a fresh process on one core, and checks that they agree."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
ONE_THREAD = (
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TOKIO_WORKER_THREADS",
    "ARROW_IO_THREADS",
)
TIMEOUT_S = 600


@dataclass(frozen=True)
class Output:
    """What a contender wrote: the counts that all of them must agree on."""

    rows: int
    flagged: int
    minutes: int
    uploads: int
    samples: int
    metres: float
    speed_sum: float

    def agrees(self, other: "Output") -> bool:
        """Counts equal, distance and sum of speeds within 0.1 %."""
        return (
            self.counts() == other.counts()
            and close(self.metres, other.metres)
            and close(self.speed_sum, other.speed_sum)
        )

    def counts(self) -> tuple[int, ...]:
        return self.rows, self.flagged, self.minutes, self.uploads, self.samples


def close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-3 * max(abs(one), abs(other))


@dataclass(frozen=True)
class Result:
    """One run: `seconds` of work without imports, `cpu_s` of them spent computing, `peak_mb`,
    or why it failed."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    output: Output | None = None
    failure: str = ""


def measure(
    name: str, archive: Path, out: Path, core: int | None, timeout_s: float = TIMEOUT_S
) -> Result:
    """Run a contender pinned to `core` (unpinned where that is None) and look at what it wrote."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "bench.backfill_contenders", name, str(archive), str(out)]
    environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
            cwd=ROOT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Result(failure=f"not done in {timeout_s} s")
    try:
        if done.returncode:
            return Result(failure=(done.stderr.strip().splitlines() or ["no message"])[-1])
        figures = json.loads(done.stdout.strip().splitlines()[-1])
        output = look(out)
        if output is None and name != "bare":
            return Result(failure="wrote no rows")
        return Result(**figures, output=output)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def look(out: Path) -> Output | None:
    """Counts and sums of the Parquet files under `out`; None where there are none."""
    rows = [
        pq.read_table(path, columns=["quality_flags"], partitioning=None)
        for path in out.glob("telemetry_*/**/*.parquet")
    ]
    if not rows:
        return None
    flagged = sum(
        pc.sum(pc.greater(pc.list_value_length(t["quality_flags"]), 0)).as_py() or 0 for t in rows
    )
    names = ["n_uploads", "n_samples", "distance_gps_m", "speed_sum_kmh"]
    minutes = [
        pq.read_table(path, columns=names, partitioning=None)
        for path in out.glob("vehicle_minutes/**/*.parquet")
    ]
    sums = [sum(pc.sum(t[name]).as_py() or 0 for t in minutes) for name in names]
    return Output(sum(len(t) for t in rows), flagged, sum(len(t) for t in minutes), *sums)


def last_core() -> int | None:
    """The core to pin to: the last allowed one, as the first takes most interrupts."""
    with contextlib.suppress(AttributeError):
        return max(os.sched_getaffinity(0))
    return None
