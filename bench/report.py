"""The results as tables: on the terminal, and between markers in bench/README.md."""

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

README = Path(__file__).parent / "README.md"
PACKAGES = ("apache-beam", "duckdb", "fastavro", "numpy", "orjson", "pyarrow", "pyruhvro")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, columns padded, numbers to the right."""
    widths = [max(len(str(row[n])) for row in (head, *rows)) for n in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            str(cell).ljust(w) if n < 2 else str(cell).rjust(w)
            for n, (cell, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * w if n < 2 else "-" * (w - 1) + ":" for n, w in enumerate(widths)]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def machine() -> str:
    """Processor, cores, memory and versions, in one line."""
    model, memory = platform.processor() or platform.machine(), ""
    if Path("/proc/cpuinfo").exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
        total = Path("/proc/meminfo").read_text().split()[1]
        memory = f", {int(total) / 1048576:.0f} GiB"
    return f"{model}, {os.cpu_count()} cores{memory}; {versions()}"


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} absent")
    return ", ".join(found)


def write(section: str, text: str) -> None:
    """Put `text` between the markers of `section` in the README. Raises ValueError without them."""
    begin, end = f"<!-- {section} -->", f"<!-- /{section} -->"
    old = README.read_text(encoding="utf-8")
    before, found, rest = old.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{README.name} has no markers {begin} … {end}")
    README.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
