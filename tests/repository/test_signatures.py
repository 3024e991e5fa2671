"""No function takes more parameters than a reader can hold: what belongs together is a dataclass.

Commands too: `runners.cli.options.as_one` gives them their options as one.
"""

import ast
from collections.abc import Iterator

from tests.repository.files import PACKAGES, ROOT

MOST = 7
"""Parameters of a function or method, `self` and `cls` not counted."""


def functions(
    node: ast.AST, in_class: bool = False
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    """All functions below a node, and whether each is a method."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child, in_class
            yield from functions(child)
        else:
            yield from functions(child, isinstance(child, ast.ClassDef))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef, method: bool) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    bound = method and bool(named) and named[0].arg in ("self", "cls")
    return len(named) - bound + sum(map(bool, (arguments.vararg, arguments.kwarg)))


def test_no_function_has_too_many_parameters():
    found = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for function, method in functions(ast.parse(path.read_text(encoding="utf-8")))
        if parameters(function, method) > MOST
    ]
    assert found == []


def test_parameters_are_counted_as_a_caller_sees_them():
    source = "class A:\n def b(self, a, /, b, *c, d, **e): ...\n  \ndef f(self, a): ..."
    assert [parameters(*found) for found in functions(ast.parse(source))] == [5, 2]
