"""Lint rules: each has a schema that breaks it alone; Odograph's own files break none."""

import copy
import json
from pathlib import Path

import pytest

from schemas import AVRO_DIRECTORY
from schemas.lint import check, lint_directory

NULL_FLOAT = ["null", "float"]


def of(schema, name):
    return next(f for f in schema["fields"] if f["name"] == name)


def sample(schema, name):
    return next(f for f in of(schema, "samples")["type"]["items"]["fields"] if f["name"] == name)


@pytest.fixture
def write(tmp_path):
    """Writes the schema files, changed by `change`, into a directory; returns their problems."""

    def problems(name, change, *others):
        for stem in (name, *others):
            schema = json.loads((AVRO_DIRECTORY / f"{stem}.avsc").read_text())
            if stem == name:
                change(schema)
            (tmp_path / f"{stem}.avsc").write_text(json.dumps(schema))
        return lint_directory(tmp_path)

    return problems


def test_the_house_files_are_clean():
    assert lint_directory(AVRO_DIRECTORY) == []


def test_the_house_files_may_replace_themselves():
    assert check(AVRO_DIRECTORY, AVRO_DIRECTORY) == []


def set_key(getter, name, /, **changes):
    def change(schema):
        getter(schema, name).update(changes)

    return change


def drop_key(getter, name, key):
    def change(schema):
        del getter(schema, name)[key]

    return change


def rename(schema):
    schema["name"] = "Gps"


def no_namespace(schema):
    del schema["namespace"]


def no_enum_default(schema):
    del sample(schema, "fix_type")["type"]["default"]


def logical(base, name, /, **more):
    return set_key(of, "seq", type=["null", {"type": base, "logicalType": name, **more}])


FIXED = {"type": "fixed", "name": "F", "size": 2}


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        (rename, "", "record-name"),
        (no_namespace, "", "namespace"),
        (set_key(of, "samples", doc=" "), "samples", "doc"),
        (drop_key(sample, "hdop", "doc"), "samples.hdop", "doc"),
        (set_key(sample, "speed_kmh", name="speed"), "samples.speed", "unit-suffix"),
        (set_key(sample, "altitude_m", name="altitude_mi"), "samples.altitude_mi", "unit-suffix"),
        (set_key(sample, "altitude_m", doc="feet"), "samples.altitude_m", "unit-doc"),
        (set_key(of, "seq", type=["null", "bytes"]), "seq", "not-native"),
        (set_key(of, "seq", type=["null", FIXED]), "seq", "not-native"),
        (logical("bytes", "decimal", precision=4), "seq", "not-native"),
        (logical("string", "uuid"), "seq", "not-native"),
        (logical("int", "time-millis"), "seq", "not-native"),
        (logical("long", "time-micros"), "seq", "not-native"),
        (logical("long", "local-timestamp-millis"), "seq", "not-native"),
        (set_key(of, "extras", type={"type": "map", "values": "bytes"}), "extras", "not-native"),
        (no_enum_default, "samples.fix_type", "enum-default"),
        (set_key(of, "firmware_version", type=["string", "null"], default=""),
         "firmware_version", "union"),
        (set_key(of, "seq", type=["null", "long", "string"]), "seq", "union"),
        (drop_key(of, "seq", "default"), "seq", "null-default"),
        (set_key(sample, "hdop", valid=[99, 0]), "samples.hdop", "valid"),
        (set_key(sample, "hdop", valid=[0, 0]), "samples.hdop", "valid"),
        (set_key(sample, "hdop", valid=[0]), "samples.hdop", "valid"),
        (set_key(sample, "fix_type", valid=[0, 1]), "samples.fix_type", "valid"),
        (set_key(sample, "hdop", sentinels=["255"]), "samples.hdop", "sentinels"),
        (set_key(sample, "hdop", sentinels=[True]), "samples.hdop", "sentinels"),
        (set_key(sample, "hdop", milli_above="40"), "samples.hdop", "valid"),
        (set_key(sample, "hdop", sts="acc"), "samples.accuracy_m", "sts-unique"),
    ],
)  # fmt: skip
def test_each_rule_finds_what_breaks_it(write, change, field, rule):
    found = [(problem.field, problem.rule) for problem in write("message_gps", change)]
    assert (field, rule) in found
    assert {other for other in found if other[1] != "null-default"} <= {(field, rule)}


def test_sentinels_may_lie_inside_valid(write):
    assert write("message_gps", set_key(sample, "hdop", sentinels=[50])) == []


def test_dead_letters_may_hold_bytes(write):
    assert write("dead_letter", lambda schema: None) == []


@pytest.mark.parametrize(
    "text", ["{", "[]", '"string"', '{"type":"record"}', '{"type":"x"}', "\xff"]
)
def test_what_is_no_avro_record_is_named(tmp_path, text):
    (tmp_path / "trip.avsc").write_bytes(text.encode("latin-1"))
    (problem,) = lint_directory(tmp_path)
    assert (problem.file, problem.rule) == ("trip.avsc", "avro")


def test_an_empty_directory_is_not_clean(tmp_path):
    with pytest.raises(FileNotFoundError):
        lint_directory(tmp_path)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (drop_key(of, "n_uploads", "merge"), "merge"),
        (set_key(of, "n_uploads", merge="mean"), "merge"),
        (set_key(of, "revision", merge="max"), "merge"),
        (drop_key(of, "soc_last_pct", "at"), "merge-at"),
        (set_key(of, "n_uploads", at="odometer"), "merge-at"),
    ],
)
def test_minutes_say_how_they_merge(write, change, rule):
    assert [problem.rule for problem in write("vehicle_minute", change)] == [rule]


def swap(schema):
    fields = schema["fields"]
    fields[3], fields[4] = fields[4], fields[3]


def shorten(schema):
    schema["fields"].pop()


def test_a_vehicle_record_is_its_message_plus_enrichment(write):
    def changed(change):
        return [p.rule for p in write("vehicle_gps", change, "message_gps")]

    assert changed(lambda schema: None) == []
    for change in (swap, shorten, set_key(of, "seq", doc="other")):
        assert changed(change) == ["vehicle-fields"]


def test_a_name_has_one_type_in_all_messages(write):
    change = set_key(sample, "speed_kmh", type=["null", "double"])
    (problem,) = write("message_gps", change, "message_adas")
    assert (problem.file, problem.field) == ("message_gps.avsc", "samples.speed_kmh")
    assert (problem.rule, "message_adas" in problem.message) == ("same-type", True)


def test_files_share_one_namespace(write):
    def move(schema):
        schema["namespace"] = "elsewhere"

    found = write("trip", move, "dead_letter", "vehicle_dim")
    assert [(problem.file, problem.rule) for problem in found] == [("trip.avsc", "namespace")]


def test_check_lints_and_compares(write, tmp_path):
    write("message_log", set_key(of, "odometer_m", doc="km"))
    found = [problem.rule for problem in check(tmp_path, AVRO_DIRECTORY)]
    assert found.count("unit-doc") == 1
    assert found.count("unit-changed") == 1
    assert found.count("schema-removed") == len(list(AVRO_DIRECTORY.glob("*.avsc"))) - 1


def test_check_does_not_compare_what_is_no_avro(tmp_path):
    (tmp_path / "trip.avsc").write_text("{")
    assert [problem.rule for problem in check(tmp_path, Path(AVRO_DIRECTORY))] == ["avro"]


def test_problems_are_plain_immutable_values(write):
    (problem,) = write("message_gps", set_key(of, "samples", doc=""))
    assert copy.copy(problem) == problem
    assert str(problem) == f"message_gps.avsc: samples: doc: {problem.message}"
