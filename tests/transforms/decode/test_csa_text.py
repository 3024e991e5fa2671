"""CSA lines to uploads: columns, units, clocks, checksums."""

import hashlib
import json

import pytest

from tests.support.uploads import NOON, at, csa, raw_batch, run

PHONES = {"01012345678": "0001"}
ARRIVAL = at("2024-01-15T00:00:00")


def facts_of(lines, **more):
    return run(raw_batch(lines, topic="message-log", **more), phones=PHONES)


def test_m20_the_four_results_of_the_example_frames(examples):
    lines = (examples / "csa_frames.txt").read_bytes().splitlines(keepends=True)
    facts = facts_of(lines, hour=ARRIVAL)
    first, second, boot = facts.telemetry
    expected = {
        "device_no": "0001", "device_gen": "CSA", "firmware_version": "1.3", "boot_count": None,
        "seq": None, "speed_kmh": 43.0, "odometer_m": 48213400,
        "lat_deg": pytest.approx(37.5443, abs=1e-6), "lon_deg": pytest.approx(127.0557, abs=1e-6),
        "aux_battery_v": pytest.approx(14.1), "fuel_level_pct": 61.0, "heading_deg": 91.0,
        "event_time": at("2024-01-15T00:30:12"), "received_time": at("2024-01-15T00:30:12"),
        "ignition_on": True, "door_open": False, "locked": True, "headlamp_on": False,
        "time_source": "DEVICE", "quality_flags": ["RECEIVED_TIME_ESTIMATED"], "extras": None,
    }  # fmt: skip
    assert {name: first[name] for name in expected} == expected
    assert second["speed_kmh"] == pytest.approx(42.84, rel=1e-6)
    assert second["event_time"] == at("2024-01-15T00:31:12")
    assert boot["device_time"] == at("1999-12-31T15:00:07")
    assert boot["event_time"] == boot["received_time"] == ARRIVAL
    assert boot["time_source"] == "RECEIVED_FALLBACK"
    assert boot["quality_flags"] == ["CLOCK_EPOCH", "RECEIVED_TIME_ESTIMATED"]
    assert boot["aux_battery_v"] == pytest.approx(9.8)
    assert facts.errors == ["TRUNCATED"]
    assert facts.dead[0]["raw_value"] == lines[3].rstrip(b"\n")


def test_m20_the_kafka_timestamp_is_the_receive_time_where_the_archive_kept_it():
    facts = facts_of([csa()], kafka=NOON + 4)
    assert facts.row["received_time"] == NOON + 4
    assert facts.flags == [[]]


def test_m17_what_is_no_frame_is_a_dead_letter_and_its_neighbours_facts():
    good = csa()
    bad = {
        b"$CSA": "TRUNCATED",
        good[:-3]: "TRUNCATED",
        csa("CSA", "1.3", "01012345678", "LOG"): "TRUNCATED",
        good.replace(b"0482134", b"0482135"): "CHECKSUM",
        csa(kind="XYZ"): "UNKNOWN_TYPE",
        csa(phone="01099999999"): "MISSING_DEVICE_NO",
        csa(phone=""): "MISSING_DEVICE_NO",
        csa(time=""): "NO_TIME",
        csa(time="241315093012"): "NO_TIME",
    }
    lines = [line for one in bad for line in (one, csa(odo=len(one)))]
    facts = facts_of(lines)
    assert (
        dict(zip((letter["raw_value"] for letter in facts.dead), facts.errors, strict=True)) == bad
    )
    assert facts.good + facts.duplicates == len(bad)


def test_message_id_of_a_csa_line_is_of_its_bytes():
    line = csa()
    row = facts_of([line + b"\r\n"]).row
    assert row["message_id"] == hashlib.sha256(b"0001|log|" + line).hexdigest()[:32]
    assert facts_of([line, line + b"\n"]).duplicates == 1


@pytest.mark.parametrize(
    ("columns", "lat", "lon"),
    [
        ({"ns": "S"}, -37.5, 127.0),
        ({"ew": "W"}, 37.5, -127.0),
        ({"lat": "3730.6000"}, 37.51, 127.0),
        ({"fix": "V"}, None, None),
        ({"lat": ""}, None, None),
        ({"ns": ""}, None, None),
    ],
)
def test_m13_a_position_needs_a_fix_and_a_hemisphere(columns, lat, lon):
    row = facts_of([csa(kind="GPS", **columns)]).row
    assert (row["lat_deg"], row["lon_deg"]) == (pytest.approx(lat), pytest.approx(lon))
    assert row["fix_type"] == ("NONE" if columns.get("fix") == "V" else "UNKNOWN")


@pytest.mark.parametrize("name", ["lat", "ns", "speed", "heading", "odo", "batt", "flags", "fuel"])
def test_m15_a_column_that_says_nothing_is_null_and_flagged(name):
    row = facts_of([csa(**{name: "?"})]).row
    assert row["quality_flags"] == ["RECEIVED_TIME_ESTIMATED", "TYPE_INVALID"]


def test_m16_surplus_columns_are_kept_as_json_text():
    body = csa()[1:-3].decode().split(",")
    row = facts_of([csa(*body, "a", 'say "hi"\\')]).row
    assert {key: json.loads(text) for key, text in row["extras"].items()} == {
        "_c17": "a",
        "_c18": 'say "hi"\\',
    }
    assert "EXTRA_FIELDS" in row["quality_flags"]


def test_m05_local_time_is_nine_hours_ahead_even_where_the_tz_database_says_ten():
    row = facts_of([csa(time="870715120000")]).row
    assert row["device_time"] == at("1987-07-15T12:00:00+09:00")


def test_m19_sentinels_of_csa_columns_are_null():
    row = facts_of([csa(speed=255, fuel=255)]).row
    assert (row["speed_kmh"], row["fuel_level_pct"]) == (None, None)
    assert "SENTINEL" in row["quality_flags"]


@pytest.mark.parametrize(
    ("code", "column"),
    [("BOT", "boot_reason"), ("KIN", "event_type"), ("ADS", "warning_type"), ("GPS", "fix_type")],
)
def test_m18_each_code_is_a_message_type(code, column):
    assert column in facts_of([csa(kind=code)]).row
