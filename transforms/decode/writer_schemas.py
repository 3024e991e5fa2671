"""Which writer schemas are safe to decode with.

A schema comes from outside, as data does. It may be such that decoding never ends, or that the
decoder ends the process.
"""

from __future__ import annotations

import functools
import json
from typing import Any

MAX_DEPTH = 32
MAX_LEAVES = 10_000
MAX_FIXED_BYTES = 1 << 20
_NAMED = ("record", "error", "enum", "fixed")


class _Unfit(Exception):
    pass


def unfit(writer: Any) -> str | None:
    """Why messages of this writer schema (JSON as Python values) are not decoded; None where they
    are. Refused are recursion, types nested deeper than MAX_DEPTH or with more than MAX_LEAVES
    leaves once every name is replaced by its type, `fixed` of more than MAX_FIXED_BYTES, arrays of
    items that take no bytes, and names without a type."""
    return _unfit(json.dumps(writer))


@functools.lru_cache(maxsize=256)
def _unfit(writer_json: str) -> str | None:
    try:
        _Walk().shape(json.loads(writer_json), "", 0)
    except _Unfit as reason:
        return f"its writer schema {reason}"
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        return f"its writer schema is not valid: {type(error).__name__}: {error}"
    return None


_Shape = tuple[int, int]
"""Leaves of a type, and the fewest bytes a value of it takes."""
_PRIMITIVES: dict[str, _Shape] = {
    "null": (1, 0), "boolean": (1, 1), "int": (1, 1), "long": (1, 1),
    "float": (1, 4), "double": (1, 8), "bytes": (1, 1), "string": (1, 1),
}  # fmt: skip


class _Walk:
    """One walk over a schema. `_known` maps the names of types to their shapes; None while the walk
    is inside that type."""

    def __init__(self) -> None:
        self._known: dict[str, _Shape | None] = {}

    def shape(self, kind: Any, namespace: str, depth: int) -> _Shape:
        """The shape of a type. Raises _Unfit when it must not be decoded."""
        if depth > MAX_DEPTH:
            raise _Unfit(f"nests deeper than {MAX_DEPTH}")
        if isinstance(kind, str):
            shape = self._named(kind, namespace)
        elif isinstance(kind, list):
            branches = [self.shape(branch, namespace, depth + 1) for branch in kind]
            shape = sum(leaves for leaves, _ in branches), 1
        elif isinstance(kind["type"], dict | list):
            shape = self.shape(kind["type"], namespace, depth + 1)
        elif kind["type"] in _NAMED:
            shape = self._define(kind, namespace, depth)
        elif kind["type"] in ("array", "map"):
            shape = self._collection(kind, namespace, depth)
        else:
            shape = self._named(kind["type"], namespace)
        if shape[0] > MAX_LEAVES:
            raise _Unfit(f"has more than {MAX_LEAVES} leaves")
        return shape

    def _named(self, name: str, namespace: str) -> _Shape:
        if name in _PRIMITIVES:
            return _PRIMITIVES[name]
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        full = full if full in self._known else name
        if full not in self._known:
            raise _Unfit(f"names the type {name[:64]!r}, which it does not hold")
        shape = self._known[full]
        if shape is None:
            raise _Unfit(f"holds {name[:64]!r} within itself")
        return shape

    def _define(self, kind: dict[str, Any], namespace: str, depth: int) -> _Shape:
        name = str(kind["name"])
        namespace = name.rpartition(".")[0] if "." in name else kind.get("namespace", namespace)
        full = f"{namespace}.{name.rpartition('.')[2]}" if namespace else name
        self._known[full] = None
        if kind["type"] == "enum":
            shape = max(1, len(kind["symbols"])), 1
        elif kind["type"] == "fixed":
            size = int(kind["size"])
            if not 0 <= size <= MAX_FIXED_BYTES:
                raise _Unfit(f"has a fixed of {size} bytes, more than {MAX_FIXED_BYTES}")
            shape = 1, size
        else:
            fields = [self.shape(field["type"], namespace, depth + 1) for field in kind["fields"]]
            shape = max(1, sum(leaves for leaves, _ in fields)), sum(size for _, size in fields)
        self._known[full] = shape
        return shape

    def _collection(self, kind: dict[str, Any], namespace: str, depth: int) -> _Shape:
        is_map = kind["type"] == "map"
        leaves, size = self.shape(kind["values" if is_map else "items"], namespace, depth + 1)
        if size == 0 and not is_map:
            raise _Unfit("has an array of items that take no bytes: their number has no bound")
        return leaves + is_map, 1
