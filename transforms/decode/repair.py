"""The slow path for one STS message: strict JSON, coerced values, kept extras, or a refusal.

Only lines that the native decoder refuses come here. An accepted upload has the same columns and
values as one that was decoded natively.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas import MESSAGE_TYPES, REPORT_TYPES, Field, envelope_fields, payload_fields
from transforms.decode import coerce
from transforms.model.dead_letters import Refusal
from transforms.model.known_terminals import KnownTerminals
from transforms.model.quality_flags import BIT
from transforms.model.raw_messages import message_at
from transforms.model.thresholds import Bounds
from transforms.model.uploads import HEAD, Uploads, message_ids, normal_device_no, rows_schema

EXTRA = BIT["EXTRA_FIELDS"]
_CUT_OFF = re.compile(r"[\w.+\\-]*\s*")
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
"""A string, which may lack its end, or a bracket: each byte is looked at once."""


class Refused(Exception):
    """A message that cannot become an upload; `error_type` is that of the dead letter."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.device_no: str | None = None
        self.message_type: str | None = None


@dataclass
class Repaired:
    """One upload as Python values: `head` and `samples` by field name; `row` of the raw batch."""

    row: int
    message_type: str
    head: dict[str, Any]
    samples: list[dict[str, Any]]


def nesting(text: bytes) -> int:
    """How deep brackets are nested outside of strings; counted without parsing."""
    depth = deepest = 0
    for token in _BRACKETS.findall(text):
        if token in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token in b"]}":
            depth -= 1
    return deepest


class _Objects:
    """Builds the objects of one message: no key twice in one of them, and no more than `limit`
    different keys in all of them together, of which each may become a column."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._keys: set[str] = set()

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            twice = _first_twice([key for key, _ in pairs])
            raise Refused("DUPLICATE_KEY", f"key {twice[:64]!r} stands twice in one object")
        self._keys |= result.keys()
        if len(self._keys) > self._limit:
            raise Refused("TOO_MANY_KEYS", f"more different keys than max_keys {self._limit}")
        return result


def _first_twice(keys: list[str]) -> str:
    """The first key that equals one before it; "" where none does."""
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            return key
        seen.add(key)
    return ""


def _no_constant(text: str) -> Any:
    raise Refused("INVALID_JSON", f"{text} is no JSON number")


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= 40 else float(text)


def strict_json(value: bytes, bounds: Bounds) -> dict[str, Any]:
    """Parse one message. Raises Refused when it is not one JSON object within bounds."""
    if not value.strip():
        raise Refused("EMPTY", "the message is empty")
    if len(value) > bounds.max_message_bytes:
        limit = bounds.max_message_bytes
        raise Refused("OVERSIZE", f"{len(value)} bytes, more than max_message_bytes {limit}")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("BAD_ENCODING", f"byte {error.start} is not UTF-8") from None
    depth = nesting(value)
    if depth > bounds.max_nesting:
        raise Refused(
            "TOO_DEEP", f"nested {depth} deep, more than max_nesting {bounds.max_nesting}"
        )
    try:
        parsed = json.loads(
            text,
            object_pairs_hook=_Objects(bounds.max_keys),
            parse_constant=_no_constant,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        cut = text.lstrip().startswith("{") and error.msg != "Extra data"
        cut = cut and bool(_CUT_OFF.fullmatch(text, error.pos) or "Unterminated" in error.msg)
        kind = "TRUNCATED_JSON" if cut else "INVALID_JSON"
        raise Refused(kind, f"{error.msg} at character {error.pos} of {len(text)}") from None
    if not isinstance(parsed, dict):
        raise Refused("INVALID_JSON", f"a {type(parsed).__name__}, expected an object")
    if _has_surrogate(parsed):
        raise Refused("BAD_ENCODING", "a lone surrogate escape is not text")
    return parsed


def _has_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def device_no_of(value: Any, terminals: KnownTerminals, bounds: Bounds) -> tuple[str, int]:
    """The normal form of a terminal number and flag bits (M26). Raises Refused."""
    if isinstance(value, str):
        if len(value.encode()) > bounds.max_device_no_length:
            raise Refused("TYPE", f"device_no has {len(value)} characters")
        value = normal_device_no(value) or None
    if value is None:
        raise Refused("MISSING_DEVICE_NO", "device_no is absent, null or blank")
    if isinstance(value, str):
        return value, 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Refused("TYPE", f"device_no is a {type(value).__name__}, expected a string")
    known = terminals.restore_zeros(value)
    if len(known) != 1:
        raise Refused(
            "AMBIGUOUS_DEVICE_NO",
            f"device_no is the number {value}; {len(known)} known terminals equal it "
            "without leading zeros, exactly one is needed",
        )
    return known[0], coerce.COERCED


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _extras(values: dict[str, Any], known: AbstractSet[str]) -> list[tuple[str, str]]:
    return [(key, _as_text(values[key])) for key in values.keys() - known]


def repair(row: int, value: bytes, terminals: KnownTerminals, bounds: Bounds) -> Repaired:
    """One message as an upload. Raises Refused, with terminal and type where they can be read."""
    message = strict_json(value, bounds)
    try:
        return _upload(row, message, terminals, bounds)
    except Refused as refused:
        device_no, message_type = message.get("device_no"), message.get("type")
        limit = bounds.max_device_no_length
        refused.device_no = device_no[:limit] if isinstance(device_no, str) else None
        refused.message_type = message_type[:limit] if isinstance(message_type, str) else None
        raise


def _upload(
    row: int, message: dict[str, Any], terminals: KnownTerminals, bounds: Bounds
) -> Repaired:
    message_type = message.get("type")
    if not isinstance(message_type, str) or message_type not in MESSAGE_TYPES:
        raise Refused(
            "UNKNOWN_TYPE", f"type is {str(message_type)[:64]!r}, expected {MESSAGE_TYPES}"
        )
    device_no, flags = device_no_of(message.get("device_no"), terminals, bounds)
    head: dict[str, Any] = {"device_no": device_no}
    known = ["type", "device_no"]
    for field in envelope_fields():
        if field.sts is None or field.name == "device_no":
            continue
        known.append(field.sts)
        value = message.get(field.sts)
        if field.name == "received_time":
            head[field.name], bits = coerce.received_ms(value)
        else:
            head[field.name], bits = coerce.value_of(field, value)
        flags |= bits
    samples, keys = _samples(message, message_type, bounds)
    extras = _extras(message, {*known, *keys})
    head["extras"] = sorted(extras) or None
    head["flags"] = flags | (EXTRA if extras else 0)
    return Repaired(row, message_type, head, samples)


def _samples(
    message: dict[str, Any], message_type: str, bounds: Bounds
) -> tuple[list[dict[str, Any]], list[str]]:
    """The samples of an upload by field name, and the top-level keys that hold them."""
    if message_type in REPORT_TYPES:
        report = message.get("d")
        if not isinstance(report, dict):
            raise Refused("SCHEMA", f"d is a {type(report).__name__}, expected an object")
        if "ts" in report:
            report = {f"d.{key}" if key == "ts" else key: v for key, v in report.items()}
        return [_sample({"ts": message.get("ts"), **report}, message_type)], ["ts", "d"]
    data = message.get("data")
    if not isinstance(data, list):
        raise Refused("SCHEMA", f"data is a {type(data).__name__}, expected an array")
    if not data:
        raise Refused("EMPTY", "data is an empty array")
    if len(data) > bounds.max_samples:
        limit = bounds.max_samples
        raise Refused("TOO_MANY_SAMPLES", f"{len(data)} samples, more than max_samples {limit}")
    for position, sample in enumerate(data):
        if not isinstance(sample, dict):
            kind = type(sample).__name__
            raise Refused("SCHEMA", f"data[{position}] is a {kind}, expected an object")
    return [_sample(sample, message_type) for sample in data], ["data"]


def _sample(values: dict[str, Any], message_type: str) -> dict[str, Any]:
    sample: dict[str, Any] = {}
    flags = 0
    for key, name, field, plain in _expected(message_type):
        value = values.get(key)
        if plain is None or type(value) is not plain:
            value, bits = coerce.value_of(field, value)
            flags |= bits
        sample[name] = field.default if value is None and not field.nullable else value
    extras = _extras(values, _expected_keys(message_type))
    sample["extras"] = sorted(extras) or None
    sample["flags"] = flags | (EXTRA if extras else 0)
    return sample


@functools.cache
def _expected(message_type: str) -> tuple[tuple[str, str, Field, type | None], ...]:
    """Key, name and field of each payload field, and the Python type (if any) whose values are
    taken as they are."""
    plain = {"boolean": bool, "string": str}
    return tuple(
        (f.sts or f.name, f.name, f, plain.get(f.kind)) for f in payload_fields(message_type)
    )


@functools.cache
def _expected_keys(message_type: str) -> frozenset[str]:
    return frozenset(key for key, *_ in _expected(message_type))


def repair_lines(
    raw: pa.RecordBatch, rows: Iterable[int], terminals: KnownTerminals, bounds: Bounds
) -> tuple[list[Repaired], list[Refusal]]:
    """Uploads and refusals of `rows` of a raw batch, each message by itself."""
    repaired, refusals = [], []
    for row in rows:
        value = message_at(raw, row)
        try:
            repaired.append(repair(row, value, terminals, bounds))
        except Refused as refused:
            known = (refused.device_no, refused.message_type)
            refusals.append(Refusal(row, refused.error_type, str(refused), *known))
    return repaired, refusals


def assemble(
    repaired: list[Repaired], raw: pa.RecordBatch, message_type: str, generation: str
) -> tuple[Uploads, pa.RecordBatch]:
    """Uploads of one type out of repaired messages, and their raw rows; `generation` is STS or
    CSA."""
    chosen = raw.take(pa.array([upload.row for upload in repaired]))
    heads = {name: [upload.head.get(name) for upload in repaired] for name in HEAD.names}
    columns = {name: pa.array(heads[name], HEAD.field(name).type) for name in HEAD.names}
    for name in ("topic", "partition", "offset", "object", "line"):
        columns[name] = chosen.column(name)
    columns["device_gen"] = pa.repeat(generation, len(repaired))
    columns["message_id"] = message_ids(
        columns["device_no"],
        message_type,
        columns["boot_count"],
        columns["seq"],
        chosen,
    )
    rows = [
        {"upload": position, **sample}
        for position, upload in enumerate(repaired)
        for sample in upload.samples
    ]
    return (
        Uploads(
            message_type,
            pa.RecordBatch.from_arrays([columns[name] for name in HEAD.names], schema=HEAD),
            pa.RecordBatch.from_pylist(rows, schema=rows_schema(message_type)),
        ),
        chosen,
    )
