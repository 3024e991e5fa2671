"""Writer schemas come from outside: whatever types they give our fields, and whatever they hold,
one message is dead or good by itself and its neighbours are good."""

from __future__ import annotations

import copy

import pytest

from schemas import load
from tests.support.uploads import NOON, SECOND, block, datum, frame, raw_batch, run
from transforms.decode.avro_container import decode_block
from transforms.decode.decoder import Decoder
from transforms.decode.writer_schemas import MAX_DEPTH, MAX_LEAVES, unfit

LOG = load("message_log").avro
ENUM = {"type": "enum", "name": "Other", "symbols": ["A", "B"]}
TYPES = {
    "boolean": ("boolean", True),
    "int": ("int", 7),
    "long": ("long", 2**62),
    "float": ("float", 7.5),
    "double": ("double", -1e300),
    "string": ("string", "north"),
    "bytes": ("bytes", b"\xff\0"),
    "enum": (ENUM, "B"),
    "fixed": ({"type": "fixed", "name": "Eight", "size": 8}, b"12345678"),
    "array": ({"type": "array", "items": "string"}, ["x"]),
    "map": ({"type": "map", "values": "long"}, {"k": 1}),
    "record": ({"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}, {"x": 1}),
    "union": (["null", "string", "long"], "x"),
    "decimal": ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, b"\1"),
    "micros": ({"type": "long", "logicalType": "timestamp-micros"}, 2**62),
    "null": ("null", None),
}
FIELDS = [field["name"] for field in LOG["fields"]]


def record(seq: int) -> dict:
    return {
        "message_id": f"{seq:032x}", "device_no": "0001", "device_gen": "STS", "boot_count": 1,
        "seq": seq, "received_time": NOON + seq * SECOND, "device_time": NOON + seq * SECOND,
        "extras": {}, "tire_pressure_kpa": [], "dtc_codes": [],
    }  # fmt: skip


def with_type(name: str, kind: object) -> dict:
    """The schema of a log with another type for a field."""
    changed = copy.deepcopy(LOG)
    field = next(field for field in changed["fields"] if field["name"] == name)
    field["type"] = kind
    field.pop("default", None)
    return changed


@pytest.mark.parametrize("kind", TYPES)
def test_a_writer_may_give_any_field_any_type(kind):
    """One message of each field with that type among good ones; every good one is a fact."""
    theirs, value = TYPES[kind]
    writers, messages = {1: LOG}, []
    for number, name in enumerate(FIELDS, 2):
        writers[number] = with_type(name, copy.deepcopy(theirs))
        odd = record(1000 + number) | {name: value}
        messages += [frame(1, LOG, record(number)), frame(number, writers[number], odd)]
    facts = run(raw_batch(messages, offset=100), writers=writers)
    seqs = {row["seq"] for row in facts.telemetry}
    assert set(range(2, len(FIELDS) + 2)) <= seqs
    assert set(facts.errors) <= {"BAD_AVRO", "MISSING_DEVICE_NO", "UNKNOWN_TYPE", "TYPE"}
    duplicates = len(messages) - len(facts.telemetry) - len(facts.errors)
    assert duplicates in (0, 1)  # a message_id of another type may be that of a neighbour


def test_messages_of_one_writer_that_do_not_fit_are_cut_out_one_by_one():
    writer = with_type("boot_count", ["null", "long"])
    boots = [3_000_000_000 if seq % 7 == 0 else 1 for seq in range(40)]
    messages = [frame(2, writer, record(n) | {"boot_count": boot}) for n, boot in enumerate(boots)]
    facts = run(raw_batch(messages, offset=100), writers={2: writer})
    assert [row["seq"] for row in facts.telemetry] == [seq for seq in range(40) if seq % 7]
    assert facts.errors == ["BAD_AVRO"] * 6


def test_a_container_block_keeps_what_fits():
    writer = with_type("boot_count", ["null", "long"])
    datums = [datum(writer, record(n) | {"boot_count": 2**40 if n == 3 else 1}) for n in range(9)]
    outcome = decode_block(block(writer, datums), Decoder())
    assert sum(map(len, outcome.good)) == 8
    assert outcome.dead.column("error_type").to_pylist() == ["BAD_AVRO"]


def nested(depth: int) -> dict | str:
    return {"type": "array", "items": nested(depth - 1)} if depth else "int"


def doubling(levels: int) -> list[dict]:
    """Records of two of the level below: 2^levels leaves in a few bytes of schema."""
    fields = [{"name": "x", "type": "int"}]
    for level in range(levels):
        inner = {"type": "record", "name": f"L{level}", "fields": fields}
        fields = [{"name": "a", "type": inner}, {"name": "b", "type": f"L{level}"}]
    return fields


def log_with(*fields: dict) -> dict:
    return {**LOG, "fields": [*LOG["fields"], *fields]}


HOSTILE = {
    "itself": [{"name": "next", "type": ["null", LOG["name"]]}],
    "itself by way of a map": [{"name": "m", "type": {"type": "map", "values": LOG["name"]}}],
    "a huge fixed": [{"name": "f", "type": {"type": "fixed", "name": "F", "size": 2**40}}],
    "a negative fixed": [{"name": "f", "type": {"type": "fixed", "name": "F", "size": -1}}],
    "nulls without number": [{"name": "n", "type": {"type": "array", "items": "null"}}],
    "empty records without number": [
        {
            "name": "n",
            "type": {"type": "array", "items": {"type": "record", "name": "E", "fields": []}},
        }
    ],
    "empty fixed values without number": [
        {
            "name": "n",
            "type": {"type": "array", "items": {"type": "fixed", "name": "Z", "size": 0}},
        }
    ],
    "too deep": [{"name": "d", "type": nested(MAX_DEPTH + 1)}],
    "leaves that double": doubling(40),
    "an unknown name": [{"name": "u", "type": "Nobody"}],
    "no type": [{"name": "u"}],
    "a number for a type": [{"name": "u", "type": 5}],
}


@pytest.mark.parametrize("fields", HOSTILE.values(), ids=HOSTILE)
def test_a_schema_that_could_end_the_process_is_never_decoded_with(fields):
    writer = log_with(*fields)
    assert unfit(writer)
    good = [frame(1, LOG, record(n)) for n in range(3)]
    bad = b"\0" + (2).to_bytes(4, "big") + datum(LOG, record(9)) + b"\xfe" * 9 + b"\1"
    facts = run(raw_batch([*good[:2], bad, good[2]], offset=100), writers={1: LOG, 2: writer})
    assert [row["seq"] for row in facts.telemetry] == [0, 1, 2]
    assert facts.errors == ["BAD_AVRO"]
    outcome = decode_block(block(writer, [bad]), Decoder())
    assert outcome.dead.column("error_type").to_pylist() == ["BAD_AVRO"]


@pytest.mark.parametrize("name", ["log", "boot", "gps", "kinematic", "adas"])
def test_our_own_schemas_are_fit(name):
    assert unfit(load(f"message_{name}").avro) is None


def test_a_type_may_be_named_again():
    inner = {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "int"}]}
    again = [{"name": "a", "type": inner}, {"name": "b", "type": ["null", "Inner"]}]
    assert unfit(log_with(*again)) is None


def test_leaves_are_bounded_not_fields_of_a_usual_schema():
    many = [{"name": f"f{at}", "type": ["null", "double"]} for at in range(MAX_LEAVES // 4)]
    assert unfit(log_with(*many)) is None
