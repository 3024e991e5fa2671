"""How the backfill grows: with the archive, with the bindings, with Beam's workers."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from bench import report
from bench.harness import ONE_THREAD, ROOT, last_core, measure
from bench.inputs import INPUTS, make

ARCHIVES = {"gps-json": (1, 10, 30), "log-json": (1, 3, 10)}
BINDINGS = (10_000, 100_000, 1_000_000, 10_000_000)
WORKERS = (1, 2, 4)
TIMEOUT_S = 1_800


def tables(work: Path, samples: int) -> str:
    """All three tables as Markdown; a run that fails is a line that says so."""
    parts = [
        ("Archive, one core", archive_growth(work, samples)),
        (
            "Bindings: one snapshot, 1,000,000 lookups of random terminals, one core",
            bindings_growth(),
        ),
        ("Beam workers, all cores (multi_processing; log-json)", worker_growth(work, samples)),
    ]
    return "\n\n".join(f"{title}:\n\n{table}" for title, table in parts)


def archive_growth(work: Path, samples: int) -> str:
    """Samples a second and peak memory of the backfill at multiples of the input."""
    rows = []
    for kind in (one for one in INPUTS if one.name in ARCHIVES):
        for times in ARCHIVES[kind.name]:
            archive = make(work, kind, samples * times)
            sent = json.loads((archive / "truth.json").read_text())["samples"]
            result = measure("backfill", archive, work / "out", last_core(), TIMEOUT_S)
            if times > 1:
                shutil.rmtree(archive)
            label = f"{times}x, {sent:,} samples"
            print(kind.name, label, result.failure or f"{result.seconds:.1f} s", flush=True)
            if result.failure:
                rows.append((kind.name, label, "failed", "", result.failure))
                continue
            rows.append(
                (
                    kind.name,
                    label,
                    f"{sent / result.seconds:,.0f}",
                    f"{result.seconds:.1f}",
                    f"{result.peak_mb:,.0f}",
                )
            )
    return report.markdown(("input", "size", "samples/s", "seconds", "peak MB"), rows)


def bindings_growth() -> str:
    """Building a snapshot and looking up, each size in a process of its own."""
    rows = []
    for count in BINDINGS:
        done = run_pinned("bench.bindings", str(count))
        print("bindings", f"{count:,}", (done.stdout or done.stderr).strip()[-200:], flush=True)
        if done.returncode:
            rows.append((f"{count:,}", "", "failed", "", ""))
            continue
        figures = json.loads(done.stdout)
        rows.append(
            (
                f"{count:,}",
                f"{figures['terminals']:,} terminals",
                f"{figures['build_s']:.2f}",
                f"{figures['lookups_per_s']:,.0f}",
                f"{figures['peak_mb']:,.0f}",
            )
        )
    return report.markdown(("bindings", "", "build s", "lookups/s", "peak MB"), rows)


def run_pinned(module: str, *words: str) -> subprocess.CompletedProcess:
    core = last_core()
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, **dict.fromkeys(ONE_THREAD, "1")},
        preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
    )


def worker_growth(work: Path, samples: int) -> str:
    """The whole command, start included, by number of Beam workers; memory is that of the tree."""
    archive = make(work, INPUTS[1], samples)
    sent = json.loads((archive / "truth.json").read_text())["samples"]
    rows = []
    for workers in WORKERS:
        out = work / "out"
        shutil.rmtree(out, ignore_errors=True)
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "bench.workers", str(archive), str(out), str(workers)],
            cwd=ROOT,
            env={**os.environ, **dict.fromkeys(ONE_THREAD, "1")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as child:
            watch = TreeMemory(child.pid)
            try:
                _, complaint = child.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                stop_tree(child)
                complaint = f"not done in {TIMEOUT_S} s"
            peak = watch.stop()
        seconds = time.perf_counter() - start
        shutil.rmtree(out, ignore_errors=True)
        failed = child.returncode != 0
        why = (complaint.strip().splitlines() or ["no message"])[-1] if failed else ""
        print(workers, "workers", why or f"{seconds:.1f} s", flush=True)
        rows.append(
            (
                str(workers),
                why,
                "failed" if failed else f"{sent / seconds:,.0f}",
                f"{seconds:.1f}",
                f"{peak:,.0f}",
            )
        )
    return report.markdown(("workers", "", "samples/s", "seconds", "peak MB"), rows)


def stop_tree(child: subprocess.Popen) -> None:
    """End a child and the workers it started, by their ids."""
    for process in [*psutil.Process(child.pid).children(recursive=True), child]:
        process.kill()
    child.communicate()


class TreeMemory:
    """Samples the resident memory of a process and its children ten times a second, in MB."""

    def __init__(self, pid: int):
        self._root, self._peak, self._end = psutil.Process(pid), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.1):
            total = 0
            try:
                for process in [self._root, *self._root.children(recursive=True)]:
                    total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            self._peak = max(self._peak, total)

    def stop(self) -> float:
        self._end.set()
        self._thread.join()
        return self._peak / 1_048_576
