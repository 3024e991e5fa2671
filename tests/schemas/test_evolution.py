"""Evolution rules: what Avro forbids, and what Avro allows but a fleet does not survive."""

import copy
import json
from pathlib import Path

import fastavro
import pytest

from schemas.evolution import check, check_directory, documented_unit, named_unit

FIXTURES = Path(__file__).parent / "fixtures"


def version(name):
    return json.loads((FIXTURES / f"message_log.{name}.avsc").read_text())


def field(schema, name):
    return next(f for f in schema["fields"] if f["name"] == name)


def rules(old, new):
    return [problem.rule for problem in check(old, new, "message_log.avsc")]


@pytest.fixture
def old():
    return version("v1")


@pytest.fixture
def new(old):
    return copy.deepcopy(old)


def test_the_backward_example_may_replace_the_first_version(old):
    assert check(old, version("v2_backward")) == []


def test_fastavro_reads_old_data_with_the_backward_example(old):
    from io import BytesIO

    row = {"device_no": "1", "event_time": 1, "odometer_m": 7, "batt_v": 12.5, "gen": "STS"}
    datum = BytesIO()
    fastavro.schemaless_writer(datum, old, {**row, "speed_kmh": 3})
    datum.seek(0)
    read = fastavro.schemaless_reader(datum, old, version("v2_backward"))
    assert (read["odometer_m"], read["aux_battery_v"], read["speed_kmh"]) == (7, 12.5, 3.0)


def test_the_first_version_may_not_replace_the_backward_example(old):
    found = rules(version("v2_backward"), old)
    assert sorted(set(found)) == ["rename-without-alias", "type-changed"]


@pytest.mark.parametrize(
    ("before", "after"),
    [("metres", "km"), ("metres, lifetime", "Kilometres, lifetime"), ("", "in km"), ("m", "miles")],
)
def test_metres_to_kilometres_under_one_name_is_refused(old, new, before, after):
    field(old, "odometer_m")["doc"] = before
    field(new, "odometer_m")["doc"] = after
    (problem,) = check(old, new, "message_log.avsc")
    assert (problem.field, problem.rule) == ("odometer_m", "unit-changed")
    assert str(problem).startswith("message_log.avsc: odometer_m: unit-changed: m became ")


def test_another_wording_of_the_same_unit_is_fine(old, new):
    field(old, "odometer_m")["doc"] = "metres, vehicle lifetime (CSA sends km -> x1000)."
    field(new, "odometer_m")["doc"] = "Lifetime of the vehicle in meters."
    assert check(old, new) == []


def test_a_unit_attribute_counts_before_the_doc(old, new):
    field(old, "odometer_m")["unit"] = "m"
    field(new, "odometer_m")["unit"] = "km"
    assert rules(old, new) == ["unit-changed"]


def test_an_alias_does_not_carry_values_into_another_unit(old, new):
    field(new, "speed_kmh").update(name="speed_mps", aliases=["speed_kmh"], doc="m/s")
    assert rules(old, new) == ["unit-changed"]


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ([0, 300], [0, 83.3], True),
        ([0, 83], [0, 300], True),
        ([0, 300], [0, 186], True),
        ([0, 4_000_000], [0, 4000], True),
        ([-40, 214], [-40_000, 214_000], True),
        ([0, 300], [0, 400], False),
        ([-40, 214], [-60, 214], False),
        ([0, 100], [1, 100], False),
        ([0, 300], None, False),
    ],
)
def test_a_rescaled_valid_range_is_a_change_of_unit(old, new, before, after, refused):
    field(old, "speed_kmh")["valid"] = before
    if after:
        field(new, "speed_kmh")["valid"] = after
    assert rules(old, new) == (["valid-rescaled"] if refused else [])


def test_a_logical_type_does_not_change_its_scale(old, new):
    field(new, "event_time")["type"]["logicalType"] = "timestamp-micros"
    assert rules(old, new) == ["unit-changed"]


def test_a_rename_without_alias_is_refused(old, new):
    field(new, "batt_v")["name"] = "aux_battery_v"
    (problem,) = check(old, new)
    assert (problem.field, problem.rule) == ("batt_v", "rename-without-alias")
    assert "aliases ['batt_v']" in problem.message


@pytest.mark.parametrize("name", ["batt_v", "odometer_m"])
def test_a_rename_with_alias_is_fine(old, new, name):
    field(new, name).update(name="other_" + name.rpartition("_")[2], aliases=[name])
    assert [problem.rule for problem in check(old, new)] == []


def test_a_field_with_default_may_come(old, new):
    new["fields"].append({"name": "soc_pct", "type": ["null", "float"], "default": None})
    assert check(old, new) == []


def test_a_required_field_may_not_come(old, new):
    new["fields"].append({"name": "tbox_temp_c", "type": "float"})
    assert rules(old, new) == ["required-added"]


def test_a_field_with_default_may_go(old, new):
    new["fields"].remove(field(new, "speed_kmh"))
    assert check(old, new) == []


def test_a_field_without_default_may_not_go(old, new):
    new["fields"].remove(field(new, "odometer_m"))
    assert rules(old, new) == ["required-removed"]


ALLOWED = {
    ("int", "long"), ("int", "float"), ("int", "double"),
    ("long", "float"), ("long", "double"), ("float", "double"),
}  # fmt: skip
KINDS = ("int", "long", "float", "double", "string", "bytes", "boolean")


@pytest.mark.parametrize("before", KINDS)
@pytest.mark.parametrize("after", KINDS)
def test_only_numbers_widen(old, new, before, after):
    field(old, "batt_v")["type"] = ["null", before]
    field(new, "batt_v")["type"] = ["null", after]
    if before == after or (before, after) in ALLOWED:
        assert check(old, new) == []
    elif {before, after} == {"string", "bytes"}:
        assert rules(old, new) == ["promotion-not-native"]
    else:
        assert rules(old, new) == ["type-changed"]


def test_a_field_may_become_nullable_but_not_the_other_way(old, new):
    field(new, "odometer_m")["type"] = ["null", "int"]
    assert check(old, new) == []
    assert rules(new, old) == ["null-removed"]


def test_a_time_is_no_plain_number(old, new):
    field(old, "odometer_m")["type"] = "long"
    field(new, "odometer_m")["type"] = {"type": "long", "logicalType": "timestamp-millis"}
    assert rules(old, new) == ["unit-changed"]


def test_an_enum_with_default_may_grow(old, new):
    field(new, "gen")["type"]["symbols"].append("STS2")
    assert check(old, new) == []


def test_an_enum_without_default_may_not_grow(old, new):
    for schema in (old, new):
        del field(schema, "gen")["type"]["default"]
    field(new, "gen")["type"]["symbols"].append("STS2")
    assert rules(old, new) == ["enum-symbol-added"]


def test_an_enum_symbol_may_not_go(old, new):
    field(new, "gen")["type"]["symbols"].remove("CSA")
    (problem,) = check(old, new)
    assert (problem.rule, "CSA" in problem.message) == ("enum-symbol-removed", True)


def test_types_keep_their_names(old, new):
    field(new, "gen")["type"]["name"] = "Generation"
    new["namespace"] = "fleet.telemetry.v2"
    assert rules(old, new) == ["type-renamed", "type-renamed"]


def test_records_inside_arrays_are_compared(old, new):
    sample = {"type": "record", "name": "S", "fields": [{"name": "alt_m", "type": "int"}]}
    for schema in (old, new):
        samples = {"type": "array", "items": copy.deepcopy(sample)}
        schema["fields"].append({"name": "samples", "type": samples})
    field(new, "samples")["type"]["items"]["fields"][0]["type"] = "string"
    (problem,) = check(old, new)
    assert (problem.field, problem.rule) == ("samples[].alt_m", "type-changed")


def test_maps_unions_and_fixed_are_compared(old, new):
    for schema in (old, new):
        schema["fields"] += [
            {"name": "extras", "type": {"type": "map", "values": "string"}},
            {"name": "reading", "type": ["null", "int", "string"], "default": None},
            {"name": "digest", "type": {"type": "fixed", "name": "D", "size": 16}},
        ]
    assert check(old, new) == []
    field(new, "extras")["type"]["values"] = "long"
    field(new, "reading")["type"] = ["null", "int", "double"]
    field(new, "digest")["type"]["size"] = 8
    found = [(problem.field, problem.rule) for problem in check(old, new)]
    assert found == [
        ("extras[]", "type-changed"), ("reading", "type-changed"), ("digest", "type-changed"),
    ]  # fmt: skip


def test_directories_are_compared_with_every_older_version(tmp_path, old):
    new_dir, old_dir = tmp_path / "new", tmp_path / "old"
    for directory, schema in [
        (new_dir, version("v2_backward")),
        (old_dir / "v1", old),
        (old_dir / "v2", version("v2_backward")),
    ]:
        directory.mkdir(parents=True)
        (directory / "message_log.avsc").write_text(json.dumps(schema))
    assert check_directory(new_dir, old_dir) == []
    (new_dir / "message_log.avsc").write_text(json.dumps(old))
    assert "type-changed" in {problem.rule for problem in check_directory(new_dir, old_dir)}
    (new_dir / "message_log.avsc").unlink()
    assert [problem.rule for problem in check_directory(new_dir, old_dir)] == ["schema-removed"] * 2


def test_an_empty_directory_compares_with_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        check_directory(FIXTURES, tmp_path)


@pytest.mark.parametrize(
    ("doc", "unit"),
    [
        ("km/h from CAN/OBD PID 0x0D", "km/h"),
        ("m/s^2, vehicle X forward", "m/s^2"),
        ("s: gps samples (one second each) with speed >= 5 km/h", "s"),
        ("seconds time-to-collision (ms elsewhere)", "s"),
        ("percent 0..100", "%"),
        ("deg/s peak.", "deg/s"),
        ("degrees clockwise", "deg"),
        ("volts at boot", "V"),
        ("(km/h)^2", "km/h"),
        ("used in fix; 0 means stale", None),
        ("distinct message_id with a sample", None),
    ],
)
def test_the_first_unit_of_a_doc_is_its_unit(doc, unit):
    assert documented_unit(doc) == unit


def test_the_last_part_of_a_name_is_its_unit():
    assert [named_unit(n) for n in ("odometer_m", "speed_kmh", "m", "seq")] == [
        "m", "km/h", None, None,
    ]  # fmt: skip
