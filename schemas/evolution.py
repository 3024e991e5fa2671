"""Whether a new version of a schema may replace an old one (BACKWARD_TRANSITIVE and more).

The base is Avro resolution: the new reader must read what the old one wrote. Refused are also
changes that Avro allows but that spoil data: another unit under the same name, a rename that turns
old values into nulls, an enum symbol that older readers cannot read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NUMBERS = ("int", "long", "float", "double")
PROMOTIONS = {"int": {"long", "float", "double"}, "long": {"float", "double"}, "float": {"double"}}
UNIT_BY_SUFFIX = {
    "kmh": "km/h", "m": "m", "s": "s", "ms": "ms", "v": "V", "pct": "%", "c": "degC",
    "deg": "deg", "dps": "deg/s", "mps2": "m/s^2", "hz": "Hz", "kpa": "kPa", "kwh": "kWh",
    "l": "l", "dbm": "dBm", "rpm": "rpm",
}  # fmt: skip
UNIT_RATIOS = (1000.0, 3.6, 1.609, 2.237)
RATIO_TOLERANCE = 0.03

_UNIT_WORDS = {
    "m/s^2": r"m/s(\^2|2|²)", "km/h": r"km/h|kmh|kph", "m/s": r"m/s", "mph": r"mph|miles/h",
    "deg/s": r"deg(rees)?/s", "rad/s": r"rad/s", "km": r"km|kilomet(re|er)s?", "cm": r"cm",
    "mm": r"mm", "mi": r"miles?", "ft": r"feet", "m": r"met(re|er)s?|^m",
    "ms": r"ms|milliseconds?", "us": r"us|microseconds?", "s": r"seconds?|^s", "knots": r"knots?",
    "mV": r"mV|millivolts?", "V": r"volts?|^V", "%": r"percent|%", "degC": r"degC|°C|celsius",
    "degF": r"degF|°F|fahrenheit", "deg": r"deg(rees?)?", "rad": r"radians?", "Hz": r"k?Hz",
    "kPa": r"kPa", "psi": r"psi", "bar": r"bar", "kWh": r"kWh", "Wh": r"Wh",
    "l": r"lit(re|er)s?|^l", "gal": r"gal(lons?)?", "dBm": r"dBm", "rpm": r"rpm",
}  # fmt: skip
_UNITS = [
    (unit, re.compile(rf"(?<![\w/^])(?:{words})(?![\w/^²])", re.IGNORECASE))
    for unit, words in _UNIT_WORDS.items()
]


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a schema file: which rule at which field, and what to do about it."""

    file: str
    field: str
    rule: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.field}" if self.field else self.file
        return f"{where}: {self.rule}: {self.message}"


def bare(avro_type: Any) -> Any:
    """The type without its null branch; a union of several types stays as it is."""
    if isinstance(avro_type, list):
        branches = [branch for branch in avro_type if branch != "null"]
        return branches[0] if len(branches) == 1 else branches
    return avro_type


def kind(avro_type: Any) -> str:
    """The Avro type name, without logical type: string, long, record, union, …"""
    if isinstance(avro_type, list):
        return "union"
    if isinstance(avro_type, dict):
        return kind(avro_type["type"])
    return str(avro_type)


def logical(avro_type: Any) -> str | None:
    """The logical type, if there is one."""
    return avro_type.get("logicalType") if isinstance(avro_type, dict) else None


def documented_unit(doc: str) -> str | None:
    """The first unit in a doc text: km/h in `km/h from CAN`; None without one."""
    hits = [(match.start(), unit) for unit, words in _UNITS if (match := words.search(doc))]
    return min(hits)[1] if hits else None


def named_unit(name: str) -> str | None:
    """The unit that ends a field name: m for `odometer_m`; None without one."""
    _, separator, suffix = name.rpartition("_")
    return UNIT_BY_SUFFIX.get(suffix) if separator else None


def is_number(avro_type: Any) -> bool:
    """True for plain numbers and arrays of them; a logical type is no plain number."""
    avro_type = bare(avro_type)
    if kind(avro_type) == "array":
        return is_number(avro_type["items"])
    return kind(avro_type) in NUMBERS and logical(avro_type) is None


def check(old: dict[str, Any], new: dict[str, Any], file: str = "") -> list[Problem]:
    """Why the parsed schema `new` must not replace `old`; `file` only labels the problems."""
    return list(_Comparison(file).records(old, new, ""))


def check_directory(new_dir: Path, old_dir: Path) -> list[Problem]:
    """Compare every schema of `new_dir` with all files of the same name below `old_dir`.

    Several versions in subdirectories of `old_dir` are all compared, which makes it transitive.
    Raises FileNotFoundError where `old_dir` holds no schema.
    """
    old_files = sorted(old_dir.rglob("*.avsc"))
    if not old_files:
        raise FileNotFoundError(f"no .avsc file in {old_dir} to compare with")
    problems: dict[Problem, None] = {}
    for old_file in old_files:
        new_file = new_dir / old_file.name
        if new_file.exists():
            of_file = check(_read(old_file), _read(new_file), old_file.name)
        else:
            message = f"{old_file} has no successor in {new_dir}: who reads old data? Keep it"
            of_file = [Problem(old_file.name, "", "schema-removed", message)]
        problems.update(dict.fromkeys(of_file))
    return list(problems)


def _read(path: Path) -> dict[str, Any]:
    schema = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(schema, dict) or not isinstance(schema.get("fields"), list):
        raise ValueError(f"{path} is no Avro record: lint it before comparing it")
    return schema


def _old_names(field: dict[str, Any]) -> list[str]:
    return [field["name"], *field.get("aliases", ())]


def _shape(avro_type: Any) -> Any:
    """What makes two types the same, whatever their docs and annotations."""
    if isinstance(avro_type, list):
        return tuple(_shape(branch) for branch in avro_type)
    if not isinstance(avro_type, dict):
        return avro_type
    parts = [kind(avro_type), logical(avro_type), avro_type.get("name")]
    parts += [_shape(avro_type[key]) for key in ("items", "values") if key in avro_type]
    return tuple(parts)


@dataclass(frozen=True)
class _Comparison:
    file: str

    def problem(self, path: str, rule: str, message: str) -> Problem:
        return Problem(self.file, path, rule, message)

    def records(self, old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[Problem]:
        yield from self._type_name(old, new, path)
        unread = {field["name"]: field for field in old["fields"]}
        added = []
        for field in new["fields"]:
            before = next((unread.pop(n) for n in _old_names(field) if n in unread), None)
            if before is None:
                added.append(field)
                continue
            field_path = f"{path}{field['name']}"
            yield from self.types(before["type"], field["type"], field_path)
            yield from self._units(before, field, field_path)
        yield from self._removed(list(unread.values()), added, path)
        yield from self._added(added, path)

    def types(self, old: Any, new: Any, path: str) -> Iterator[Problem]:
        if _nullable(old) and not _nullable(new):
            message = f"{old} became {new}: old nulls cannot be read; keep null in the union"
            yield self.problem(path, "null-removed", message)
        old, new = bare(old), bare(new)
        if kind(old) != kind(new):
            yield from self._promotion(old, new, path)
        elif logical(old) != logical(new):
            message = (
                f"{logical(old)} became {logical(new)}: old numbers would be read in another"
                " scale; add a field under another name"
            )
            yield self.problem(path, "unit-changed", message)
        elif kind(old) == "record":
            yield from self.records(old, new, f"{path}.")
        elif kind(old) == "enum":
            yield from self._enum(old, new, path)
        elif kind(old) == "fixed":
            yield from self._fixed(old, new, path)
        elif kind(old) in ("array", "map"):
            key = "items" if kind(old) == "array" else "values"
            yield from self.types(old[key], new[key], f"{path}[]")
        elif kind(old) == "union":
            yield from self._union(old, new, path)

    def _type_name(self, old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[Problem]:
        known = [new.get("name"), *(alias.rpartition(".")[2] for alias in new.get("aliases", ()))]
        if old.get("name") not in known:
            message = (
                f"type {old.get('name')} became {new.get('name')}: Avro matches types by name;"
                f" keep the name or add aliases [{old.get('name')!r}]"
            )
            yield self.problem(path.rstrip("."), "type-renamed", message)
        elif old.get("namespace") != new.get("namespace") and not new.get("aliases"):
            message = (
                f"namespace {old.get('namespace')} became {new.get('namespace')}: keep it, or add"
                " the old full name to aliases"
            )
            yield self.problem(path.rstrip("."), "type-renamed", message)

    def _promotion(self, old: Any, new: Any, path: str) -> Iterator[Problem]:
        before, after = kind(old), kind(new)
        widened = after in PROMOTIONS.get(before, ()) and logical(old) == logical(new)
        if widened:
            return
        if {before, after} == {"string", "bytes"}:
            message = (
                f"{before} became {after}: Avro would promote it, the native decoder cannot;"
                f" keep {before}"
            )
            yield self.problem(path, "promotion-not-native", message)
            return
        message = (
            f"{before} became {after}: old data can be read only along int, long, float, double;"
            f" keep {before} or add a field under another name"
        )
        yield self.problem(path, "type-changed", message)

    def _enum(self, old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[Problem]:
        yield from self._type_name(old, new, path)
        gone = [symbol for symbol in old["symbols"] if symbol not in new["symbols"]]
        come = [symbol for symbol in new["symbols"] if symbol not in old["symbols"]]
        if gone:
            message = f"{', '.join(gone)} removed: old data holds them; keep every symbol"
            yield self.problem(path, "enum-symbol-removed", message)
        if come and "default" not in new:
            message = (
                f"{', '.join(come)} added to an enum without default: older readers would fail;"
                " give the enum a default one version earlier"
            )
            yield self.problem(path, "enum-symbol-added", message)

    def _fixed(self, old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[Problem]:
        yield from self._type_name(old, new, path)
        if old["size"] != new["size"]:
            message = f"{old['size']} bytes became {new['size']}: keep the size"
            yield self.problem(path, "type-changed", message)

    def _union(self, old: list[Any], new: list[Any], path: str) -> Iterator[Problem]:
        missing = [b for b in old if _shape(b) not in [_shape(other) for other in new]]
        if missing:
            message = f"union lost {missing}: old data may hold it; keep every branch"
            yield self.problem(path, "type-changed", message)

    def _units(self, old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[Problem]:
        if not is_number(old["type"]) or not is_number(new["type"]):
            return
        before, after = _unit(old), _unit(new)
        if before and after and before != after:
            message = (
                f"{before} became {after} under one name: old data would be read in the wrong"
                " unit; add a field whose name says the new unit"
            )
            yield self.problem(path, "unit-changed", message)
        ratio = _rescaled(old.get("valid"), new.get("valid"))
        if ratio is not None:
            message = (
                f"valid {old['valid']} became {new['valid']}, a factor of about {ratio:g}: that is"
                " a change of unit; add a field whose name says the new unit"
            )
            yield self.problem(path, "valid-rescaled", message)

    def _removed(
        self, gone: list[dict[str, Any]], added: list[dict[str, Any]], path: str
    ) -> Iterator[Problem]:
        for field in gone:
            field_path = f"{path}{field['name']}"
            if "default" not in field:
                message = (
                    f"removed, and it has no default ({field['type']}): older readers would fail;"
                    " give it a default one version before removing it, or name it in aliases"
                )
                yield self.problem(field_path, "required-removed", message)
                continue
            same = [f["name"] for f in added if _shape(f["type"]) == _shape(field["type"])]
            if same:
                message = (
                    f"gone, while {', '.join(same)} of the same type came: if it was renamed, old"
                    f" values would turn into the default; add aliases [{field['name']!r}] to the"
                    " new field, or keep the old field"
                )
                yield self.problem(field_path, "rename-without-alias", message)

    def _added(self, added: list[dict[str, Any]], path: str) -> Iterator[Problem]:
        for field in added:
            if "default" not in field:
                message = (
                    f"added without default ({field['type']}): old data lacks it; make it"
                    ' ["null", …] with default null'
                )
                yield self.problem(f"{path}{field['name']}", "required-added", message)


def _nullable(avro_type: Any) -> bool:
    return avro_type == "null" or (isinstance(avro_type, list) and "null" in avro_type)


def _unit(field: dict[str, Any]) -> str | None:
    return field.get("unit") or documented_unit(field.get("doc", "")) or named_unit(field["name"])


def _rescaled(old: Any, new: Any) -> float | None:
    """The unit factor by which the bounds of `valid` moved together, None where they did not."""
    if not old or not new:
        return None
    pairs = [(before, after) for before, after in zip(old, new, strict=False) if before or after]
    if not pairs or any(not before or not after for before, after in pairs):
        return None
    for ratio in (*UNIT_RATIOS, *(1 / ratio for ratio in UNIT_RATIOS)):
        if all(abs(after / before / ratio - 1) <= RATIO_TOLERANCE for before, after in pairs):
            return ratio
    return None
