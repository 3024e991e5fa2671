"""The results of the live measurements as Markdown.

`python -m bench.live_jobs.table DATE FILE...` puts several runs (`--out` of each) into
bench/README.md."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from bench import report
from bench.live_jobs.uploads import KINDS

NAMES = {
    "ours": "odograph",
    "heap": "odograph, state on the heap",
    "sql": "(a) Flink SQL",
    "once": "(a) that counts an upload once",
    "rows": "(b) PyFlink, row at a time",
    "quix": "(c) Quix Streams",
}
MARKS = {"sql": 1.5, "rows": 8.0, "quix": 15.0}
HEAD = ("uploads", "contender", "does", "par.", "runs", "samples/s", "lowest", "highest")
HEAD = (*HEAD, "JVM us", "Python us", "samples/CPU s", "ours is")


def line(result: dict) -> str:
    """One result, for the terminal."""
    if "rates" in result:
        return str(result)
    what = f"{result['kind']:4} {result['who']:5} {result['work']:10} p{result['parallelism']}"
    if "failure" in result:
        return f"{what} failed: {result['failure']}"
    samples = result["samples"]
    return (
        f"{what} {result['rate'] * samples:12,.0f} samples/s "
        f"{per_core(result):12,.0f} samples/CPU s, JVM {result['jvm_us']:.2f} us, "
        f"Python {result['python_us']:.2f} us an upload, over {result['seconds']:.1f} s, "
        f"took {result['took_s']:.0f} s"
    )


def per_core(result: dict) -> float:
    """Samples a processor second."""
    return result["samples"] * 1e6 / (result["jvm_us"] + result["python_us"])


def tables(runs: list[list[dict]]) -> str:
    """All of them."""
    cells = typical(runs)
    text = report.markdown(HEAD, [row(one) for one in cells])
    text += "\n\n" + report.markdown(("job", "step", "busy ms/s", "its thread"), steps(cells))
    rest = [one for run in runs for one in run if "rates" in one]
    return text + "".join("\n\n" + live(one) for one in rest)


def typical(runs: list[list[dict]]) -> list[dict]:
    """Of the cells of several runs those in the middle by samples a processor second, each with
    how many `runs` there were, and with the middle of how many `times` as much ours did in the
    same run; one that failed only where none did not."""
    found: dict[tuple, list[dict]] = defaultdict(list)
    for run in runs:
        cells = with_sums([one for one in run if "who" in one])
        for one in cells:
            found[one["who"], *key(one)].append({**one, "times": times(one, cells)})
    chosen = []
    for several in found.values():
        good = sorted((one for one in several if "failure" not in one), key=per_core)
        middle = good[(len(good) - 1) // 2] if good else several[0]
        ratios = [one["times"] for one in good if one["times"] is not None]
        ratio = statistics.median(ratios) if ratios else None
        chosen.append({**middle, "runs": len(good), "times": ratio})
    return sorted(chosen, key=_order)


def steps(cells: list[dict]) -> list[tuple[str, ...]]:
    """How busy each step of our jobs was, and where its thread was."""
    found = []
    for cell in cells:
        if cell["who"] in ("ours", "heap") and cell.get("rate") is not None:
            head = f"{cell['kind']}, {NAMES[cell['who']]}, {cell['work']}, p{cell['parallelism']}"
            for step, ms in cell["busy"].items():
                parts = sorted(cell["hot"].get(step, {}).items(), key=lambda part: -part[1])
                shares = ", ".join(f"{name} {share:.0%}" for name, share in parts if share >= 0.05)
                found.append((head, step, f"{ms:.0f}", shares))
    return found


def key(cell: dict) -> tuple:
    return cell["kind"], cell["work"], cell["parallelism"]


def with_sums(cells: list[dict]) -> list[dict]:
    """With both for those that were measured apart: the sum of what each costs."""
    found = {(one["who"], *key(one)): one for one in cells if "failure" not in one}
    sums = []
    for (who, kind, work, parallelism), one in found.items():
        other = found.get((who, kind, "aggregate", parallelism))
        if work != "convert" or other is None or (who, kind, "both", parallelism) in found:
            continue
        total = {name: one[name] + other[name] for name in ("jvm_us", "python_us")}
        sums.append({**one, **total, "work": "both", "rate": None})
    return sorted([*cells, *sums], key=_order)


def _order(cell: dict) -> tuple:
    works = ("convert", "aggregate", "both")
    place = list(KINDS).index(cell["kind"]), works.index(cell["work"]), cell["parallelism"]
    return (*place, list(NAMES).index(cell["who"]))


def row(cell: dict) -> tuple[str, ...]:
    """One line; the ratio compares samples a processor second."""
    head = (
        *(KINDS[cell["kind"]].name, NAMES[cell["who"]], cell["work"]),
        *(str(cell["parallelism"]), str(cell.get("runs", 1))),
    )
    if "failure" in cell:
        return (*head, "failed", *[""] * 6)
    samples = cell["samples"]
    rates = ("(sum)", "", "")
    if cell["rate"] is not None:
        rates = tuple(f"{cell[name] * samples:,.0f}" for name in ("rate", "low", "high"))
    return (
        *head,
        *rates,
        *(f"{cell[name] / samples:.3g}" for name in ("jvm_us", "python_us")),
        f"{per_core(cell):,.0f}",
        ratio(cell),
    )


def times(cell: dict, cells: list[dict]) -> float | None:
    """How many times a cell ours does in a processor second; None where one of them has none."""
    ours = [one for one in cells if one["who"] == "ours" and key(one) == key(cell)]
    if cell["who"] in ("ours", "heap") or not ours or "failure" in {**cell, **ours[0]}:
        return None
    return per_core(ours[0]) / per_core(cell)


def ratio(cell: dict) -> str:
    """That, and whether it reaches the mark."""
    if cell["times"] is None:
        return ""
    mark = MARKS.get(cell["who"])
    if mark is None:
        return f"{cell['times']:.1f}x"
    return f"{cell['times']:.1f}x ({'met' if cell['times'] >= mark else 'missed'} {mark:g}x)"


def live(result: dict) -> str:
    """Latency, checkpoints and memory."""
    head = ("uploads/s", "sent/s", "read", "p50 ms", "p99 ms", "largest ms", "messages")
    rows = [
        tuple(str(one[name]) for name in ("rate", "sent", "read", "p50", "p99", "worst", "count"))
        for one in result["rates"]
    ]
    checkpoints = ("job", "checkpoints", "size first MB", "size last MB", "median ms", "longest ms")
    memory = ("second", "JVM MiB", "Python MiB")
    return "\n\n".join(
        [
            report.markdown(head, rows),
            report.markdown(checkpoints, result["checkpoints"]),
            report.markdown(memory, result["memory"]),
        ]
    )


if __name__ == "__main__":
    files = [Path(name).read_text(encoding="utf-8").splitlines() for name in sys.argv[2:]]
    runs = [[json.loads(line) for line in lines] for lines in files]
    report.write("live", f"{sys.argv[1]}; {report.machine()}.\n\n{tables(runs)}")
