"""Topic names stand in connectors/kafka/topics.py alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

from connectors.kafka.topics import DEAD_LETTERS, MINUTES
from tests.repository.files import PACKAGES, ROOT

HOME = ROOT / "connectors" / "kafka" / "topics.py"
PREFIXES = ("message-", "vehicle-")
NO_TOPICS = {"vehicle-fields"}
"""A kind of problem of schemas/lint.py."""


def literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every text in code, those inside f-strings too; docstrings are left out."""
    sentences = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if text and id(node) not in sentences:
            yield node.lineno, node.value


def is_topic(text: str) -> bool:
    """Whether a text is a topic's name or the beginning of one; `late` and `unbound` are words of
    other things too, so their names are not looked for."""
    return text in (MINUTES, DEAD_LETTERS) or (text.startswith(PREFIXES) and text not in NO_TOPICS)


def written(path: Path) -> list[str]:
    tree = ast.parse(path.read_bytes(), str(path))
    where = path.relative_to(ROOT)
    return [f"{where}:{line} {text}" for line, text in literals(tree) if is_topic(text)]


def test_no_package_writes_a_topic_name_of_its_own():
    paths = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py") if path != HOME]
    assert [one for path in paths for one in written(path)] == []


def test_the_search_would_find_them():
    assert len(written(HOME)) >= 4
