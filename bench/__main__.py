"""python -m bench: the contenders side by side, or with --scale how the backfill grows."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench import report, scale
from bench.harness import Result, last_core, measure
from bench.inputs import INPUTS, Input, make

CONTENDERS = {
    "core": "(a) this core, no engine",
    "backfill": "(a') odograph backfill, whole",
    "per_message": "(b) per message: orjson / fastavro, dicts",
    "duckdb_sql": "(c) DuckDB SQL",
    "bare": "(d) decode only",
}
SAMPLES = 600_000


def main() -> int:
    """Measure, print and, with --date, write the README; 1 where contenders fail or disagree."""
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.scale:
        section, text, good = "scale", scale.tables(options.work, options.samples), True
        print(text)
    else:
        section = "side-by-side"
        text, good = side_by_side(options)
    if options.date:
        report.write(section, f"{options.date}; {report.machine()}.\n\n{text}")
    return 0 if good else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="samples an input")
    parser.add_argument("--repeat", type=int, default=1, help="runs each; the fastest counts")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument(
        "--inputs", nargs="+", choices=[i.name for i in INPUTS], default=[i.name for i in INPUTS]
    )
    parser.add_argument("--scale", action="store_true", help="growth of the backfill instead")
    parser.add_argument("--date", help="date of the run; with it bench/README.md is rewritten")
    parser.add_argument(
        "--work",
        type=Path,
        help="where inputs are kept between runs",
        default=Path(tempfile.gettempdir()) / "odograph-bench",
    )
    return parser.parse_args()


def side_by_side(options: argparse.Namespace) -> tuple[str, bool]:
    """Every contender over every input; the table, and whether all ran and agreed."""
    rows, notes, good = [], [], True
    for kind in (i for i in INPUTS if i.name in options.inputs):
        archive = make(options.work, kind, options.samples)
        results = fastest(archive, options)
        for name, result in results.items():
            print(f"{kind.name:9} {CONTENDERS[name]:42} {figure(result)}", flush=True)
        sent = json.loads((archive / "truth.json").read_text())["samples"]
        rows += lines(kind, results, sent)
        note, agreed = verdict(kind, results)
        print(note, flush=True)
        notes.append(f"- {note}")
        good &= agreed
    head = ("input", "contender", "rows/s", "seconds", "cpu s", "peak MB", "x (a)")
    text = report.markdown(head, rows) + "\n\n" + "\n".join(notes)
    print("\n" + text)
    return text, good


def fastest(archive: Path, options: argparse.Namespace) -> dict[str, Result]:
    """The best run of each contender, taken in turns; its failure where one run failed."""
    runs: dict[str, list[Result]] = {name: [] for name in options.only}
    for _ in range(options.repeat):
        for name, found in runs.items():
            found.append(measure(name, archive, options.work / "out", last_core()))
    return {
        name: next((run for run in found if run.failure), min(found, key=lambda r: r.seconds))
        for name, found in runs.items()
    }


def figure(result: Result) -> str:
    return result.failure or (
        f"{result.seconds:7.2f} s {result.cpu_s:7.2f} cpu s {result.peak_mb:7.0f} MB"
    )


def lines(kind: Input, results: dict[str, Result], samples: int) -> list[tuple[str, ...]]:
    """Table rows of one input, which holds `samples` samples, those sent twice included."""
    base = results.get("core", Result(failure="not run"))
    rows = []
    for name, result in results.items():
        label = CONTENDERS[name] + decoded_by(kind, name)
        if result.failure:
            rows.append((kind.name, label, "failed", *[""] * 4))
            continue
        ratio = "" if base.failure else f"{base.cpu_s / result.cpu_s:.2f}"
        rows.append(
            (
                kind.name,
                label,
                f"{samples / result.seconds:,.0f}",
                f"{result.seconds:.2f}",
                f"{result.cpu_s:.2f}",
                f"{result.peak_mb:,.0f}",
                ratio,
            )
        )
    return rows


def decoded_by(kind: Input, name: str) -> str:
    return " after pyruhvro" if (kind.encoding, name) == ("avro", "duckdb_sql") else ""


def verdict(kind: Input, results: dict[str, Result]) -> tuple[str, bool]:
    """Whether the outputs of one input agree, in words."""
    failed = {name: r.failure for name, r in results.items() if r.failure}
    outputs = {name: r.output for name, r in results.items() if r.output}
    names = list(outputs)
    odd = [name for name in names[1:] if not outputs[names[0]].agrees(outputs[name])]
    text = f"{kind.name}: "
    if odd:
        text += "DISAGREE: " + "; ".join(f"{name} {outputs[name]}" for name in names)
    elif len(names) > 1:
        one = outputs[names[0]]
        text += (
            f"{', '.join(names)} agree on {one.rows:,} rows ({one.flagged:,} flagged), "
            f"{one.minutes:,} minutes, {one.metres / 1000:,.1f} km."
        )
    else:
        text += "nothing to compare."
    text += "".join(f" {name} failed: {why}." for name, why in failed.items())
    return text, not odd and not failed


if __name__ == "__main__":
    sys.exit(main())
