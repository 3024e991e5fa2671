"""How fast a job takes records and what it costs: source counts from Flink's REST interface,
processor time of the TaskManager and its Python workers from the system."""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import psutil

from connectors.errors import DependencyFailed
from runners.flink.rest import Cluster
from runners.stack.servers.flink import Flink

EVERY_S = 0.25
WINDOWS = 3
TAKEN = re.compile(r"^Source.*\.numRecordsOut$")


@dataclass(frozen=True)
class Point:
    """Records taken and processor seconds of JVM and Python, at a moment (monotonic seconds)."""

    at: float
    taken: float
    jvm_s: float
    python_s: float


@dataclass(frozen=True)
class Pace:
    """Uploads a second (median, lowest and highest of the windows), and processor microseconds
    an upload over all of them; `busy` and `hot` as the functions of that name tell."""

    rate: float
    low: float
    high: float
    jvm_us: float
    python_us: float
    seconds: float
    busy: dict[str, float] = field(default_factory=dict)
    hot: dict[str, dict[str, float]] = field(default_factory=dict)


class Cost:
    """Processor seconds of a cluster's only TaskManager and of all Python workers it ever had."""

    def __init__(self, flink: Flink) -> None:
        found = flink.task_manager(1).running()
        if found is None:
            raise DependencyFailed("the TaskManager does not run; see its log")
        self._manager = found
        self._workers: dict[int, float] = {}

    def now(self) -> tuple[float, float]:
        """JVM and Python seconds so far."""
        for child in self._manager.children(recursive=True):
            try:
                self._workers[child.pid] = _seconds(child)
            except psutil.NoSuchProcess:
                continue
        return _seconds(self._manager), sum(self._workers.values())

    def memory_mb(self) -> tuple[int, int]:
        """Resident MiB of the JVM and of the living Python workers."""
        python = 0
        for child in self._manager.children(recursive=True):
            try:
                python += child.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return self._manager.memory_info().rss >> 20, python >> 20


def _seconds(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return spent.user + spent.system


class Source:
    """What the device source of a job has taken so far."""

    def __init__(self, cluster: Cluster, job_id: str) -> None:
        self._cluster, self._job = cluster, job_id
        self._found: tuple[str, str] | None = None

    def taken(self) -> float:
        """Records; 0 while the job starts. Raises DependencyFailed when it failed."""
        if self._found is None and not self._find():
            return 0.0
        vertex, metric = self._found or ("", "")
        path = f"/jobs/{self._job}/vertices/{vertex}/subtasks/metrics?get={quote(metric)}&agg=sum"
        metrics = self._cluster.ask("GET", path)
        return float(metrics[0]["sum"]) if metrics else 0.0

    def _find(self) -> bool:
        details = self._cluster.ask("GET", f"/jobs/{self._job}")
        if details["state"] in ("FAILED", "CANCELED"):
            raise DependencyFailed(f"{details['name']}: {self._cluster.failure(self._job)}")
        for vertex in details["vertices"]:
            if vertex["name"].startswith("Source: device"):
                path = f"/jobs/{self._job}/vertices/{vertex['id']}/subtasks/metrics"
                names = [one["id"] for one in self._cluster.ask("GET", path)]
                metric = next((name for name in names if TAKEN.match(name)), None)
                if metric:
                    self._found = vertex["id"], metric
                    return True
        return False


def busy(cluster: Cluster, job_id: str) -> dict[str, float]:
    """Milliseconds of a second that each step of a job works, its busiest task."""
    found = {}
    for vertex in cluster.ask("GET", f"/jobs/{job_id}")["vertices"]:
        path = f"/jobs/{job_id}/vertices/{vertex['id']}/subtasks/metrics"
        metrics = cluster.ask("GET", f"{path}?get=busyTimeMsPerSecond&agg=max")
        if metrics:
            found[vertex["name"]] = float(metrics[0]["max"])
    return found


WHERE = {
    "RocksDB": "org.rocksdb",
    "Kafka": "org.apache.kafka",
    "Python's runner": "beam",
    "network buffers": "runtime.io.network",
    "serializers": "Serializer",
}
"""Parts of the frames of a stack that tell where it works, the first that is found."""


def hot(cluster: Cluster, job_id: str, patience_s: float = 15) -> dict[str, dict[str, float]]:
    """Where the task threads of each step are while they work: parts of their samples. All steps
    are looked at in the same seconds."""
    vertices = cluster.ask("GET", f"/jobs/{job_id}")["vertices"]
    found: dict[str, dict[str, float]] = {}
    deadline = time.monotonic() + patience_s
    while len(found) < len(vertices) and time.monotonic() < deadline:
        for vertex in vertices:
            path = f"/jobs/{job_id}/vertices/{vertex['id']}/flamegraph?type=on_cpu"
            root = cluster.ask("GET", path).get("data")
            if root and vertex["name"] not in found:
                parts: dict[str, float] = {}
                _count(root, "", parts)
                total = sum(parts.values()) or 1.0
                found[vertex["name"]] = {part: count / total for part, count in parts.items()}
        time.sleep(0.5)
    return found


def _count(frame: dict[str, Any], path: str, parts: dict[str, float]) -> None:
    path = f"{path};{frame['name']}"
    below = sum(child["value"] for child in frame["children"])
    own = frame["value"] - below
    if own > 0:
        part = next((name for name, text in WHERE.items() if text in path), "the rest")
        parts[part] = parts.get(part, 0.0) + own
    for child in frame["children"]:
        _count(child, path, parts)


def follow(
    look: Callable[[], Point], total: int, settle_s: float, span_s: float, patience_s: float
) -> list[Point]:
    """Points from `settle_s` after the first record on, for `span_s` or until 95 % of `total` are
    taken; only those at which something was taken."""
    points: list[Point] = []
    began: float | None = None
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        point = look()
        if began is None and point.taken > 0:
            began = point.at
        if began is not None and point.at >= began + settle_s:
            if not points or point.taken != points[-1].taken:
                points.append(point)
            if point.taken >= 0.95 * total or point.at >= began + settle_s + span_s:
                break
        time.sleep(EVERY_S)
    return points


def pace(points: list[Point]) -> Pace:
    """Their pace. Raises DependencyFailed where there are too few points to tell."""
    if len(points) < 2 * WINDOWS:
        raise DependencyFailed(f"{len(points)} points do not tell a pace; send more uploads")
    step = (len(points) - 1) / WINDOWS
    edges = [points[round(number * step)] for number in range(WINDOWS + 1)]
    rates = [
        (end.taken - begin.taken) / (end.at - begin.at) for begin, end in itertools.pairwise(edges)
    ]
    first, last = points[0], points[-1]
    taken = last.taken - first.taken
    return Pace(
        statistics.median(rates),
        min(rates),
        max(rates),
        (last.jvm_s - first.jvm_s) / taken * 1e6,
        (last.python_s - first.python_s) / taken * 1e6,
        last.at - first.at,
    )
