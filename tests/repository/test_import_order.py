"""A folder imports only from itself and from folders above it (docs/architecture.md): the packages
among each other, and the sub-folders of a package."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repository.files import PACKAGES, ROOT

ENGINES = {"apache_beam", "pyflink"}
OUTSIDE = {"boto3", "botocore", "http", "requests", "s3fs", "socket", "subprocess", "urllib"}
NOT_FOR_PACKAGES = {"bench", "notebooks", "tests"}

FORBIDDEN = {name: set(PACKAGES[at + 1 :]) | NOT_FOR_PACKAGES for at, name in enumerate(PACKAGES)}
for engine_free in ("schemas", "transforms", "connectors"):
    FORBIDDEN[engine_free] |= ENGINES
for pure in ("schemas", "transforms"):
    FORBIDDEN[pure] |= OUTSIDE

LADDERS = {
    "transforms": [
        {"model"},
        {"decode", "upload_rules", "terminal_rules", "bindings"},
        {"encode"},
        {"facts"},
        {"live"},
    ],
    "connectors": [
        {"errors", "settings"},
        {"storage", "retries"},
        {"kafka", "operations_db"},
        {"archive", "schema_registry"},
        {"lake"},
        {"sinks"},
    ],
    "pipelines": [{"row_revisions", "open_sink"}, {"backfill"}, {"live"}],
    "runners": [
        {"config", "progress", "artefacts", "simulation"},
        {"flink"},
        {"backfill", "stack"},
        {"cli"},
    ],
}
"""Steps from the top: a sub-folder imports from its own step (without a circle) and those above."""


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # `from package import name`: the name may be a sub-folder
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def python_files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_from_packages_above(package):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in python_files(package)
        for line, name in imported(path)
        if name.partition(".")[0] in FORBIDDEN[package]
    ]
    assert wrong == []


def neighbours(package: str) -> dict[tuple[str, str], list[str]]:
    """Which sub-folders (or modules beside them) import from which others, and where."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in python_files(package):
        own = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        for line, name in imported(path):
            names = name.split(".")
            if names[0] == package and names[1] != own:
                place = f"{path.relative_to(ROOT)}:{line} imports {name}"
                found.setdefault((own, names[1]), []).append(place)
    return found


@pytest.mark.parametrize("package", LADDERS)
def test_a_sub_folder_imports_only_from_its_step_and_steps_above(package):
    step = {name: at for at, names in enumerate(LADDERS[package]) for name in names}
    wrong = [
        place
        for (own, other), places in neighbours(package).items()
        for place in places
        if step[other] > step[own]
    ]
    assert wrong == []


@pytest.mark.parametrize("package", LADDERS)
def test_no_circle_of_sub_folders(package):
    edges = set(neighbours(package))
    while True:
        longer = {(a, d) for a, b in edges for c, d in edges if b == c} - edges
        if not longer:
            break
        edges |= longer
    assert sorted(a for a, b in edges if a == b) == []


@pytest.mark.parametrize("package", LADDERS)
def test_each_sub_folder_has_its_step(package):
    names = {path.relative_to(ROOT / package).parts[0] for path in python_files(package)}
    known = set().union(*LADDERS[package])
    assert {name.removesuffix(".py") for name in names} - {"__init__"} == known


def test_the_document_shows_the_ladders():
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)/` \| (.*?) \|", text, re.MULTILINE)
    assert tuple(dict.fromkeys(name for name, _ in rows)) == PACKAGES
    shown = {
        name: [set(re.findall(r"`(\w+)`", step)) for step in steps.split("→")]
        for name, steps in rows
        if "→" in steps
    }
    assert shown == LADDERS


def test_every_package_has_code():
    assert [name for name in PACKAGES if not python_files(name)] == []
