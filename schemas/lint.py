"""Whether schema files keep the rules that decoder, lake and merge rely on."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro.schema

from schemas import MESSAGE_TYPES
from schemas.evolution import (
    UNIT_BY_SUFFIX,
    Problem,
    bare,
    check_directory,
    documented_unit,
    is_number,
    kind,
    logical,
    named_unit,
)

COUNT_SUFFIXES = ("n", "cnt", "bits", "idx")
UNITLESS = frozenset(
    {
        "boot_count", "seq", "revision", "attempt", "enrich_attempt", "binding_version",
        "source_partition", "source_offset", "source_line", "raw_size", "model_year",
        "hdop", "satellites", "severity", "odo_resets", "speed_sumsq",
    }
)  # fmt: skip
"""Numbers that need no unit in their name: counters, offsets, grades."""

NATIVE = ("message_", "vehicle_")
NOT_NATIVE_TYPES = frozenset({"bytes", "fixed"})
NOT_NATIVE_LOGICAL = frozenset(
    {
        "decimal", "uuid", "duration", "time-millis", "time-micros",
        "local-timestamp-millis", "local-timestamp-micros",
    }
)  # fmt: skip

MINUTE_FILE = "vehicle_minute.avsc"
MINUTE_KEY = frozenset({"vehicle_id", "minute", "revision"})
MERGES = frozenset({"sum", "min", "max", "union", "first", "last"})
ENRICHMENT = ("binding_status", "vehicle", "enriched_time", "enrich_attempt")


def check(directory: Path, against: Path | None) -> list[Problem]:
    """Lint `directory`; where all of it is Avro, compare it with the older files `against`.

    Raises FileNotFoundError where either directory holds no `.avsc` file.
    """
    problems = lint_directory(directory)
    if against is not None and not any(problem.rule == "avro" for problem in problems):
        problems += check_directory(Path(directory), Path(against))
    return problems


def lint_directory(path: Path) -> list[Problem]:
    """Everything wrong in the `.avsc` files of a directory, file by file, then between files.

    Raises FileNotFoundError where there is none: an empty directory is no clean one.
    """
    files = sorted(Path(path).glob("*.avsc"))
    if not files:
        raise FileNotFoundError(f"no .avsc file in {path}")
    problems: list[Problem] = []
    schemas: dict[str, dict[str, Any]] = {}
    for file in files:
        unparsed, schema = _parse(file)
        problems += unparsed
        if schema is not None:
            schemas[file.name] = schema
    for name, schema in schemas.items():
        problems += lint_schema(name, schema)
    problems += _namespaces(schemas)
    problems += _message_types_agree(schemas)
    problems += _vehicle_follows_message(schemas)
    return problems


def lint_schema(file: str, schema: dict[str, Any]) -> list[Problem]:
    """Everything wrong in one parsed schema file named `file`."""
    problems = list(_record_name(file, schema))
    for level, fields in _levels(schema, ""):
        problems += _sts_unique(file, level, fields)
        for field in fields:
            problems += _field(file, f"{level}{field['name']}", field)
    if file == MINUTE_FILE:
        problems += _merges(file, schema["fields"])
    return problems


def _parse(file: Path) -> tuple[list[Problem], dict[str, Any] | None]:
    try:
        schema = json.loads(file.read_text(encoding="utf-8"))
        fastavro.schema.parse_schema(copy.deepcopy(schema), named_schemas={})
    except (ValueError, TypeError, KeyError, fastavro.schema.SchemaParseException) as error:
        message = f"{type(error).__name__}: {error}; make it parse as Avro"
        return [Problem(file.name, "", "avro", message)], None
    if not isinstance(schema, dict) or schema.get("type") != "record":
        message = "a schema file holds one record; wrap it in one"
        return [Problem(file.name, "", "avro", message)], None
    return [], schema


def _levels(record: dict[str, Any], path: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The fields of a record and of every record inside it, each with its path."""
    yield path, record["fields"]
    for field in record["fields"]:
        for part in _parts(field["type"]):
            if kind(part) == "record" and isinstance(part, dict):
                yield from _levels(part, f"{path}{field['name']}.")


def _parts(avro_type: Any) -> Iterator[Any]:
    """A type and the types it is made of; records are not entered."""
    yield avro_type
    if isinstance(avro_type, list):
        for branch in avro_type:
            yield from _parts(branch)
    elif isinstance(avro_type, dict):
        for key in ("items", "values"):
            if key in avro_type:
                yield from _parts(avro_type[key])


def _record_name(file: str, schema: dict[str, Any]) -> Iterator[Problem]:
    expected = "".join(part.capitalize() for part in Path(file).stem.split("_"))
    if schema.get("name") != expected:
        message = f"record is named {schema.get('name')!r}; name it {expected!r} after its file"
        yield Problem(file, "", "record-name", message)
    if not schema.get("namespace"):
        yield Problem(file, "", "namespace", "no namespace; give it that of the other files")
    if not str(schema.get("doc") or "").strip():
        yield Problem(file, "", "doc", "the record has no doc; say what one record is")


def _field(file: str, path: str, field: dict[str, Any]) -> Iterator[Problem]:
    if not str(field.get("doc") or "").strip():
        yield Problem(file, path, "doc", "no doc; say what it means, with its unit")
    yield from _unit(file, path, field)
    yield from _types(file, path, field)
    yield from _null_default(file, path, field)
    yield from _range(file, path, field)


def _unit(file: str, path: str, field: dict[str, Any]) -> Iterator[Problem]:
    name = field["name"]
    if not is_number(field["type"]):
        return
    suffix = name.rpartition("_")[2] if "_" in name else ""
    counted = suffix in COUNT_SUFFIXES or name.startswith("n_")
    if suffix not in UNIT_BY_SUFFIX and not counted and name not in UNITLESS:
        message = (
            f"the name {name!r} of a number does not say its unit; end it in one of"
            f" {', '.join('_' + s for s in (*UNIT_BY_SUFFIX, *COUNT_SUFFIXES))}"
        )
        yield Problem(file, path, "unit-suffix", message)
    named, documented = named_unit(name), documented_unit(field.get("doc") or "")
    if named and documented and named != documented:
        message = f"the name says {named}, the doc says {documented}; make them agree"
        yield Problem(file, path, "unit-doc", message)


def _types(file: str, path: str, field: dict[str, Any]) -> Iterator[Problem]:
    for part in _parts(field["type"]):
        if isinstance(part, list) and not (len(part) == 2 and part[0] == "null"):
            message = f"union {[kind(branch) for branch in part]}; only ['null', type] is allowed"
            yield Problem(file, path, "union", message)
        if kind(part) == "enum" and isinstance(part, dict) and "default" not in part:
            message = (
                f"enum {part['name']} has no default, so no symbol could ever be added; give it"
                f" one of {', '.join(part['symbols'])}"
            )
            yield Problem(file, path, "enum-default", message)
        native = file.startswith(NATIVE) and not isinstance(part, list)
        if native and (kind(part) in NOT_NATIVE_TYPES or logical(part) in NOT_NATIVE_LOGICAL):
            message = (
                f"{logical(part) or kind(part)}: the native decoder cannot take it; use string,"
                " long, double or timestamp-millis"
            )
            yield Problem(file, path, "not-native", message)


def _null_default(file: str, path: str, field: dict[str, Any]) -> Iterator[Problem]:
    nullable = isinstance(field["type"], list) and "null" in field["type"]
    if not nullable:
        return
    if "default" not in field or field["default"] is not None:
        default = repr(field["default"]) if "default" in field else "no default"
        message = f"nullable with {default}; add default null, so that older data can be read"
        yield Problem(file, path, "null-default", message)


def _range(file: str, path: str, field: dict[str, Any]) -> Iterator[Problem]:
    valid = field.get("valid")
    annotated = [key for key in ("valid", "sentinels", "milli_above") if key in field]
    if annotated and not is_number(field["type"]):
        message = f"{', '.join(annotated)} on {kind(bare(field['type']))}; only numbers have them"
        yield Problem(file, path, "valid", message)
    if "valid" in field and not _sane_range(valid):
        yield Problem(file, path, "valid", f"{valid}; give [min, max] with min below max")
    sentinels = field.get("sentinels", [])
    if not isinstance(sentinels, list) or not all(_finite(value) for value in sentinels):
        yield Problem(file, path, "sentinels", f"{sentinels}; give a list of numbers")
    if "milli_above" in field and not _finite(field["milli_above"]):
        message = f"milli_above {field['milli_above']!r}; give a number of volts"
        yield Problem(file, path, "valid", message)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _sane_range(valid: Any) -> bool:
    if not isinstance(valid, list) or len(valid) != 2 or not all(map(_finite, valid)):
        return False
    return bool(valid[0] < valid[1])


def _sts_unique(file: str, level: str, fields: list[dict[str, Any]]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for field in fields:
        key = field.get("sts")
        if key is None:
            continue
        if key in seen:
            message = f"sts key {key!r} is already that of {seen[key]}; give each field its own"
            yield Problem(file, f"{level}{field['name']}", "sts-unique", message)
        seen.setdefault(key, field["name"])


def _merges(file: str, fields: list[dict[str, Any]]) -> Iterator[Problem]:
    for field in fields:
        name, merge, at = field["name"], field.get("merge"), field.get("at")
        if name in MINUTE_KEY:
            if merge is not None:
                yield Problem(file, name, "merge", f"{merge!r} on a key field; remove it")
        elif merge not in MERGES:
            message = f"merge is {merge!r}; give one of {', '.join(sorted(MERGES))}"
            yield Problem(file, name, "merge", message)
        elif (merge in ("first", "last")) != (at is not None):
            message = f"merge {merge!r} with at {at!r}; give `at` to first and last, to no other"
            yield Problem(file, name, "merge-at", message)


def _namespaces(schemas: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    names = [s["namespace"] for s in schemas.values() if s.get("namespace")]
    usual = max(sorted(set(names)), key=names.count, default=None)
    for file, schema in schemas.items():
        if schema.get("namespace") not in (None, "", usual):
            message = f"{schema['namespace']} among files of {usual}; use one namespace"
            yield Problem(file, "", "namespace", message)


def _plain(avro_type: Any) -> Any:
    """A type without docs and annotations of the fields in it."""
    if isinstance(avro_type, list):
        return [_plain(branch) for branch in avro_type]
    if not isinstance(avro_type, dict):
        return avro_type
    kept = {key: value for key, value in avro_type.items() if key not in ("doc", "fields")}
    for key in ("items", "values"):
        if key in kept:
            kept[key] = _plain(kept[key])
    return kept


def _message_types_agree(schemas: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    first: dict[str, tuple[str, Any]] = {}
    for file in sorted(name for name in schemas if name.startswith("message_")):
        for level, fields in _levels(schemas[file], ""):
            for field in fields:
                if field["name"] == "samples":
                    continue
                plain = _plain(field["type"])
                other, expected = first.setdefault(field["name"], (file, plain))
                if plain != expected:
                    message = f"{plain} here, {expected} in {other}; use one type for one name"
                    yield Problem(file, f"{level}{field['name']}", "same-type", message)


def _vehicle_follows_message(schemas: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    for message_type in MESSAGE_TYPES:
        file, source = f"vehicle_{message_type}.avsc", f"message_{message_type}.avsc"
        if file not in schemas or source not in schemas:
            continue
        message_fields, fields = schemas[source]["fields"], schemas[file]["fields"]
        expected = [*(field["name"] for field in message_fields), *ENRICHMENT]
        names = [field["name"] for field in fields]
        if names != expected:
            at = next(
                (i for i, (a, b) in enumerate(zip(names, expected, strict=False)) if a != b),
                min(len(names), len(expected)),
            )
            message = (
                f"field {at} is {names[at : at + 1]}, expected {expected[at : at + 1]}: the fields"
                f" are those of {source} in their order, then {', '.join(ENRICHMENT)}"
            )
            yield Problem(file, "", "vehicle-fields", message)
            continue
        for field, original in zip(fields, message_fields, strict=False):
            if field != original:
                message = f"differs from {source} in {_differences(field, original)}; copy it"
                yield Problem(file, field["name"], "vehicle-fields", message)


def _differences(field: dict[str, Any], original: dict[str, Any]) -> str:
    keys = [key for key in {**field, **original} if field.get(key) != original.get(key)]
    return ", ".join(keys)
