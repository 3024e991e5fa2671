"""The folders and files of this repository, for the tests that read its texts."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "transforms", "connectors", "pipelines", "runners")
LEFT_OUT = {"__pycache__", "build", "demo", "dist", "node_modules", "target"}


def files() -> Iterator[Path]:
    """Every file of the repository that a person wrote (nothing hidden except .ci)."""
    for folder, names, file_names in os.walk(ROOT):
        names[:] = sorted(name for name in names if name == ".ci" or _is_ours(name))
        yield from (Path(folder) / name for name in sorted(file_names))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and first name of every absolute import in a Python file."""
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module.partition(".")[0]


def _is_ours(name: str) -> bool:
    return not (name.startswith(".") or name in LEFT_OUT or name.endswith(".egg-info"))
