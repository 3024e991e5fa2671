"""Columns of the rows that the Java and the Python side of the live jobs hand each other, and of
those that the Java side keeps as state: `layouts.json`, which both sides read.

There a layout is an object, column name to kind, in the order of the columns; `extends` names a
layout whose columns come first. Kinds are those of `KINDS`, with `?` behind them where values may
be null. What stands in state stays as it is: a savepoint knows columns by their order.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pyarrow as pa

FILE = Path(__file__).parent / "layouts.json"
KINDS = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "long": pa.int64(),
    "int": pa.int32(),
    "byte": pa.int8(),
}
_KIND_OF = {arrow: kind for kind, arrow in KINDS.items()}


def layout(name: str) -> pa.Schema:
    """The layout of this name. Raises KeyError where there is none."""
    return layouts()[name]


@functools.cache
def layouts() -> dict[str, pa.Schema]:
    """All layouts by name."""
    found: dict[str, pa.Schema] = {}
    for name, columns in json.loads(FILE.read_text()).items():
        fields = list(found[columns.pop("extends")]) if "extends" in columns else []
        fields += [
            pa.field(column, KINDS[kind.removesuffix("?")], nullable=kind.endswith("?"))
            for column, kind in columns.items()
        ]
        found[name] = pa.schema(fields)
    return found


def as_text(columns: pa.Schema) -> str:
    """A layout as Java's `Layout` takes it: `name:kind` or `name:kind?`, comma-separated."""
    return ",".join(f"{f.name}:{_KIND_OF[f.type]}{'?' if f.nullable else ''}" for f in columns)
