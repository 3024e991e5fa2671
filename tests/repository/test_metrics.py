"""docs/operations/metrics.md has every number that a job reports, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.repository.files import ROOT

DOCUMENT = ROOT / "docs" / "operations" / "metrics.md"
JAVA = ROOT / "pipelines" / "live" / "flink" / "java" / "src" / "main"
JAVA_NUMBER = re.compile(r'\.(?:counter|gauge|meter|histogram)\("(\w+)"')
NAME = re.compile(r"[a-z]+(?:_[a-z]+)*")


def texts(node: ast.AST, named: dict[str, ast.AST]) -> Iterator[str]:
    """Texts in an expression, and in those that it names."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value
        elif isinstance(part, ast.Name) and part.id in named:
            yield from texts(named[part.id], {})


def python_numbers(path: Path) -> set[str]:
    """What stages count (COUNTS) and give by name (gauges)."""
    tree = ast.parse(path.read_text())
    named = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    numbers: set[str] = set()
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for node in (node for kind in classes for node in kind.body):
        if isinstance(node, ast.Assign) and "COUNTS" in map(ast.unparse, node.targets):
            numbers |= set(texts(node.value, named))
        elif isinstance(node, ast.FunctionDef) and node.name == "gauges":
            numbers |= set(texts(node, {}))
    return {name for name in numbers if NAME.fullmatch(name)}


def numbers_in_code() -> set[str]:
    java = {name for path in JAVA.rglob("*.java") for name in JAVA_NUMBER.findall(path.read_text())}
    return java.union(*map(python_numbers, (ROOT / "pipelines").rglob("*.py")))


def test_each_number_is_explained_and_no_other():
    table = DOCUMENT.read_text().partition("## What they say")[2]
    explained = {
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert explained == numbers_in_code()


def test_each_number_stands_by_its_operator():
    section = DOCUMENT.read_text().partition("## By operator")[2].partition("\n## ")[0]
    assert numbers_in_code() <= set(re.findall(r"`(\w+)`", section))
