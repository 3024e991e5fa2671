"""The schema files, read once: the one place where a field of Odograph is defined.

Every `.avsc` in `schemas/avro` is Avro plus a few attributes of our own on fields:
`sts` (key in STS JSON), `codes` (number -> enum symbol), `valid` (inclusive range),
`sentinels` (numbers that mean "not available"), `milli_above` (volts above it are millivolts),
`merge` and `at` (how two minute partials combine), `personal` (kept out of logs and metrics).
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AVRO_DIRECTORY = Path(__file__).parent / "avro"
MESSAGE_TYPES = ("log", "boot", "gps", "kinematic", "adas")
REPORT_TYPES = frozenset({"log", "boot"})


@dataclass(frozen=True)
class Field:
    """One field of a schema file; `avro_type` is the type without its null branch."""

    name: str
    avro_type: Any
    nullable: bool
    default: Any
    doc: str
    sts: str | None
    codes: dict[str, str] | None
    valid: tuple[float, float] | None
    sentinels: tuple[float, ...]
    milli_above: float | None
    merge: str | None
    at: str | None
    personal: bool

    @property
    def kind(self) -> str:
        """The bare Avro type name: string, long, timestamp-millis, enum, array, record, …"""
        if isinstance(self.avro_type, dict):
            return str(self.avro_type.get("logicalType", self.avro_type["type"]))
        return str(self.avro_type)


@dataclass(frozen=True)
class Schema:
    """A schema file: its fields in order, and the parsed Avro; `schema[name]` is one field.

    Raises KeyError for a field that it does not have.
    """

    name: str
    fields: tuple[Field, ...]
    avro: dict[str, Any]

    def __getitem__(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"schema {self.name} has no field {name}")


def parse_field(raw: dict[str, Any]) -> Field:
    """Read one field of a record in an `.avsc` file."""
    union = raw["type"] if isinstance(raw["type"], list) else None
    branches = [branch for branch in union or () if branch != "null"]
    valid = raw.get("valid")
    return Field(
        name=raw["name"],
        avro_type=branches[0] if union else raw["type"],
        nullable=union is not None and "null" in union,
        default=raw.get("default"),
        doc=raw.get("doc", ""),
        sts=raw.get("sts"),
        codes=raw.get("codes"),
        valid=(float(valid[0]), float(valid[1])) if valid else None,
        sentinels=tuple(float(value) for value in raw.get("sentinels", ())),
        milli_above=raw.get("milli_above"),
        merge=raw.get("merge"),
        at=raw.get("at"),
        personal=bool(raw.get("personal", False)),
    )


@functools.cache
def load(name: str) -> Schema:
    """The schema file `name`.avsc, such as `message_gps`. Raises FileNotFoundError for others."""
    avro = json.loads((AVRO_DIRECTORY / f"{name}.avsc").read_text(encoding="utf-8"))
    return Schema(name, tuple(parse_field(raw) for raw in avro["fields"]), avro)


@functools.cache
def envelope_fields() -> tuple[Field, ...]:
    """The fields every upload has, whatever its type: who sent it, when it came."""
    return tuple(f for f in load("message_gps").fields if f.name != "samples")


@functools.cache
def payload_fields(message_type: str) -> tuple[Field, ...]:
    """The fields of one sample of `message_type`, `device_time` first."""
    schema = load(f"message_{message_type}")
    if message_type in REPORT_TYPES:
        names = {field.name for field in envelope_fields()}
        return tuple(f for f in schema.fields if f.name not in names)
    items = schema["samples"].avro_type["items"]
    return tuple(parse_field(raw) for raw in items["fields"])
