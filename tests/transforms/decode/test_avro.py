"""Avro to uploads: writer to reader, poison in batches and in container blocks."""

import hashlib
import json
from dataclasses import replace
from decimal import Decimal

import pytest

from schemas import load
from tests.support.uploads import MINUTE, NOON, SECOND, block, datum, frame, raw_batch, run
from transforms.decode import avro

LOG, GPS = load("message_log").avro, load("message_gps").avro
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
ID = "0123456789abcdef" * 2


def log_record(n=1, **more):
    return {
        "message_id": f"{n:032x}", "device_no": "0001", "device_gen": "STS", "boot_count": 1,
        "seq": n, "received_time": NOON + n * SECOND, "device_time": NOON + n * SECOND,
        "speed_kmh": 43.0, "extras": {}, "tire_pressure_kpa": [], "dtc_codes": [],
    } | more  # fmt: skip


def gps_record(n=1, **more):
    samples = [
        {"device_time": NOON + s * SECOND, "lat_deg": 37.5 + s / 10_000, "lon_deg": 127.0,
         "fix_type": "THREE_D", "speed_kmh": 30.0 + s} for s in range(3)
    ]  # fmt: skip
    return {
        "message_id": f"{n:032x}", "device_no": "0001", "device_gen": "STS", "boot_count": 1,
        "seq": n, "received_time": NOON + 5 * SECOND, "extras": {}, "samples": samples,
    } | more  # fmt: skip


def frames(records, writer=LOG, schema_id=1):
    return [frame(schema_id, writer, record) for record in records]


def facts_of(messages, **writers):
    known = {int(key[1:]): writer for key, writer in writers.items()} or {1: LOG, 2: GPS}
    return run(raw_batch(messages, offset=100), writers=known)


@pytest.fixture
def both_ways(monkeypatch):
    """A function: a writer schema and records to their telemetry rows, decoded in one native call
    and one by one."""

    def decoded(writer, records):
        messages, native = frames(records, writer, 9), []
        one_call = avro.decode_natively

        def seen(*args):
            native.append(one_call(*args))
            return native[-1]

        monkeypatch.setattr(avro, "decode_natively", seen)
        fast = facts_of(messages, w9=writer)
        assert [items is not None for items in native] == [True], "not decoded natively"
        monkeypatch.setattr(avro, "decode_natively", lambda *args: None)
        slow = facts_of(messages, w9=writer)
        monkeypatch.undo()
        assert (fast.errors, slow.errors) == ([], [])
        return fast.telemetry, slow.telemetry

    return decoded


def fields_of(schema, **changed):
    """The schema with fields exchanged, renamed, or (None) removed; unknown names are added."""
    fields = []
    for field in schema["fields"]:
        if field["name"] not in changed:
            fields.append(field)
        elif changed[field["name"]] is not None:
            fields.append(changed[field["name"]])
    names = {field["name"] for field in schema["fields"]}
    fields += [field for name, field in changed.items() if name not in names and field]
    return {**schema, "fields": fields}


def test_a_log_in_confluent_framing_is_a_fact():
    facts = facts_of(frames([log_record(1, extras={"b": "1", "a": '"x"'}), log_record(2)]))
    first, second = facts.telemetry
    assert (first["event_time"], first["speed_kmh"], first["vehicle_id"]) == (
        NOON + SECOND,
        43,
        "CAR-1",
    )
    assert (first["extras"], first["quality_flags"]) == ({"a": '"x"', "b": "1"}, ["EXTRA_FIELDS"])
    assert (second["extras"], second["quality_flags"]) == (None, [])
    assert (first["message_id"], first["device_gen"]) == (f"{1:032x}", "STS")


def test_samples_of_a_gps_record_are_unrolled():
    facts = facts_of(frames([gps_record()], GPS, 2))
    assert facts.column("sample_idx") == [0, 1, 2]
    assert facts.column("fix_type") == ["THREE_D"] * 3
    assert facts.minute["distance_gps_m"] == pytest.approx(22.24, abs=0.01)


def test_a_vehicle_record_is_read_as_its_message():
    writer = {**LOG, "name": "VehicleLog"}
    assert facts_of(frames([log_record()], writer), w1=writer).row["speed_kmh"] == 43


NULLABLE = {"type": ["null", "int"], "default": None}
EVOLVED = {
    "a field removed": {"speed_kmh": None, "extras": None, "boot_count": None, "dtc_codes": None},
    "a field added": {
        "volume": {"name": "volume", "type": ["null", "double"], "default": None},
        "mood": {"name": "mood", "type": "string", "default": "calm"},
        "tags": {"name": "tags", "type": {"type": "map", "values": "long"}, "default": {}},
    },
    "int widened to long and float": {
        "seq": {"name": "seq", **NULLABLE}, "odometer_m": {"name": "odometer_m", **NULLABLE},
        "uptime_s": {"name": "uptime_s", "type": "int"},
        "fuel_level_pct": {"name": "fuel_level_pct", **NULLABLE},
        "lat_deg": {"name": "lat_deg", "type": ["null", "float"], "default": None},
    },
    "not nullable in the writer": {
        "speed_kmh": {"name": "speed_kmh", "type": "float"},
        "device_time": {"name": "device_time", "type": MILLIS},
    },
    "microseconds": {
        "device_time": {"name": "device_time", "type": ["null", MICROS], "default": None},
        "received_time": {"name": "received_time", "type": MICROS},
    },
    "an enum symbol the reader does not know": {
        "device_gen": {"name": "device_gen", "default": "STS", "type": {
            "type": "enum", "name": "DeviceGen", "symbols": ["STS", "NEXT", "UNKNOWN"]}},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", EVOLVED)
def test_the_native_and_the_slow_way_give_the_same_rows_for(name, both_ways):
    writer = fields_of(LOG, **EVOLVED[name])
    unit = 1000 if name == "microseconds" else 1
    records = [
        log_record(
            n, odometer_m=1000 + n, fuel_level_pct=61, lat_deg=37.5, uptime_s=7,
            received_time=(NOON + n) * unit, device_time=(NOON + n) * unit + unit - 1,
            device_gen="NEXT" if "symbol" in name else "STS", lon_deg=127.0,
            volume=1.5, mood="glad", tags={"a": 1}, extras={"z": "1", "a": "2"},
        )
        for n in range(3)
    ]  # fmt: skip
    native, slow = both_ways(writer, records)
    assert native == slow
    found = {key: [row[key] for row in native] for key in native[0]}
    for column, values in EXPECTED.get(name, {}).items():
        assert found[column] == values


EXPECTED = {
    "a field removed": {
        "speed_kmh": [None] * 3, "dtc_codes": [[]] * 3, "extras": [None] * 3,
        "boot_count": [None] * 3,
    },
    "a field added": {"speed_kmh": [43] * 3, "extras": [{"z": "1", "a": "2"}] * 3},
    "int widened to long and float": {
        "seq": [0, 1, 2], "uptime_s": [7] * 3, "fuel_level_pct": [61.0] * 3,
        "odometer_m": [1000, 1001, 1002], "lat_deg": [37.5] * 3,
    },
    "microseconds": {
        "device_time": [NOON, NOON + 1, NOON + 2], "received_time": [NOON, NOON + 1, NOON + 2],
    },
    "an enum symbol the reader does not know": {"device_gen": ["UNKNOWN"] * 3},
}  # fmt: skip


def test_the_native_and_the_slow_way_give_the_same_samples(both_ways):
    native, slow = both_ways(GPS, [gps_record(n, extras={"b": "1", "a": "2"}) for n in range(3)])
    assert native == slow
    assert len(native) == 9


def test_a_field_is_found_by_its_alias():
    fields = [f for f in LOG["fields"] if f["name"] != "speed_kmh"]
    speed = next(f for f in LOG["fields"] if f["name"] == "speed_kmh")
    writer = {**LOG, "fields": [*fields, {**speed, "name": "velocity"}]}
    reader = {**LOG, "fields": [*fields, {**speed, "aliases": ["pace", "velocity"]}]}
    record = {**log_record(), "velocity": 12.5}
    items = avro.decode_natively([datum(writer, record)], json.dumps(writer))
    raw = raw_batch(frames([log_record()]))
    uploads = avro.to_uploads(items, raw, "log", reader)
    assert uploads.rows.column("speed_kmh").to_pylist() == [12.5]


def test_two_writers_in_one_batch_are_each_read_by_their_own_schema():
    old = fields_of(LOG, speed_kmh=None)
    messages = [
        message for n in range(4)
        for message in (*frames([log_record(2 * n)]), *frames([log_record(2 * n + 1)], old, 3))
    ]  # fmt: skip
    facts = facts_of(messages, w1=LOG, w3=old)
    assert facts.column("speed_kmh") == [43, None] * 4


BAD_FRAMES = {
    "BAD_FRAMING": [b"\0", b"\0\0\0\1"],
    "UNKNOWN_SCHEMA_ID": [frame(0, LOG, log_record()), frame(999, LOG, log_record())],
    "BAD_AVRO": [
        frame(1, LOG, log_record())[:-1], frame(1, LOG, log_record()) + b"\0",
        frame(1, LOG, log_record()) * 2, b"\0\0\0\0\1", frame(1, LOG, log_record()) + b"\n",
        frame(1, LOG, log_record(firmware_version="abc")).replace(b"abc", b"a\xffc"),
    ],
    "MISSING_DEVICE_NO": [frame(1, LOG, log_record(device_no=d)) for d in ("", "  ")],
    "EMPTY": [frame(2, GPS, gps_record(samples=[]))],
    "TOO_MANY_SAMPLES": [frame(2, GPS, gps_record(samples=[{"fix_type": "NONE"}] * 601))],
}  # fmt: skip


@pytest.mark.parametrize("error_type", BAD_FRAMES)
def test_m17_what_is_no_record_is_a_dead_letter_with_its_exact_bytes(error_type):
    facts = facts_of(BAD_FRAMES[error_type])
    assert facts.errors == [error_type] * len(BAD_FRAMES[error_type])
    assert [letter["raw_value"] for letter in facts.dead] == BAD_FRAMES[error_type]


def test_m17_a_dead_letter_of_a_record_is_named_by_its_offset():
    [letter] = facts_of([*frames([log_record()]), b"\0"]).dead
    assert (letter["source_offset"], letter["source_line"]) == (101, 1)
    assert letter["dead_letter_id"] == hashlib.sha256(b"messages|0|101").hexdigest()[:32]


@pytest.mark.parametrize("size", [3, 10, 200])
def test_m17_poison_in_a_batch_is_a_dead_letter_and_its_neighbours_facts(size):
    messages = frames([log_record(n) for n in range(size)])
    poisoned = {
        1: messages[1][:-1],
        size // 2: messages[size // 2] + b"\0",
        size - 1: b"\0\0\0\0\1\xff",
    }
    mixed = [poisoned.get(n, message) for n, message in enumerate(messages)]
    facts = facts_of(mixed)
    assert [letter["source_line"] for letter in facts.dead] == sorted(poisoned)
    assert set(facts.errors) == {"BAD_AVRO"}
    assert facts.column("seq") == [n for n in range(size) if n not in poisoned]
    assert facts.column("line") == facts.column("seq")


def test_m17_two_broken_records_that_together_look_whole_are_two_dead_letters():
    one, two = (frame(1, LOG, log_record(n)) for n in (1, 2))
    shifted = [one[:-3], two[:5] + one[-3:] + two[5:]]
    facts = facts_of([*frames([log_record(0)]), *shifted])
    assert (facts.errors, facts.good) == (["BAD_AVRO"] * 2, 1)


BEYOND_NATIVE = fields_of(
    LOG,
    blob={"name": "blob", "type": "bytes", "default": ""},
    price={"name": "price", "default": "\u0000", "type": {
        "type": "bytes", "logicalType": "decimal", "precision": 4}},
)  # fmt: skip


def test_types_the_native_decoder_cannot_take_are_read_slowly():
    records = [{**log_record(n), "blob": b"x", "price": Decimal(7)} for n in range(3)]
    messages = frames(records, BEYOND_NATIVE, 5)
    messages[1] = messages[1][:-1]
    facts = facts_of(messages, w5=BEYOND_NATIVE)
    assert (facts.column("seq"), facts.errors) == ([0, 2], ["BAD_AVRO"])


def test_a_container_of_such_types_is_read_slowly_too():
    writer = fields_of(LOG, blob={"name": "blob", "type": "bytes", "default": ""})
    datums = [datum(writer, {**log_record(n), "blob": b"x"}) for n in range(3)]
    assert run(block(writer, datums)).column("seq") == [0, 1, 2]


def test_message_id_is_the_given_one_and_else_computed():
    without = fields_of(LOG, message_id=None)
    facts = facts_of(
        [*frames([log_record(5, message_id=ID)]), *frames([log_record(6, message_id="")]),
         *frames([log_record(7)], without, 3)],
        w1=LOG, w3=without,
    )  # fmt: skip
    computed = [hashlib.sha256(f"0001|log|1|{seq}".encode()).hexdigest()[:32] for seq in (6, 7)]
    assert facts.column("message_id") == [ID, *computed]


def test_message_id_of_a_frame_without_boot_or_seq_is_of_its_bytes():
    message = frame(1, LOG, log_record(message_id="", seq=None))
    row = facts_of([message]).row
    assert row["message_id"] == hashlib.sha256(b"0001|log|" + message).hexdigest()[:32]


def test_message_id_of_a_frame_that_ends_in_a_newline_byte_is_of_all_its_bytes():
    writer = fields_of(LOG, message_id=None, tail={"name": "tail", "type": "int", "default": 0})
    one = frame(1, writer, log_record(seq=None, tail=5))
    assert one.endswith(b"\n")
    row = facts_of([one], w1=writer).row
    assert row["message_id"] == hashlib.sha256(b"0001|log|" + one).hexdigest()[:32]


def test_a_container_block_gives_the_facts_of_its_records():
    datums = [datum(LOG, log_record(n)) for n in range(20)]
    facts = run(block(LOG, datums))
    assert facts.column("seq") == facts.column("line") == list(range(20))
    assert facts.errors == []
    samples = run(block(GPS, [datum(GPS, gps_record(n)) for n in (1, 2)]))
    assert samples.column("sample_idx") == [0, 1, 2] * 2


def test_records_of_a_container_without_boot_or_seq_are_told_apart_by_their_bytes():
    writer = fields_of(LOG, message_id=None)
    records = [log_record(n, seq=None, boot_count=None) for n in range(3)]
    datums = [datum(writer, record) for record in records]
    facts = run(block(writer, datums))
    assert (facts.good, facts.duplicates) == (3, 0)
    assert facts.column("message_id") == [
        hashlib.sha256(b"0001|log|" + one).hexdigest()[:32] for one in datums
    ]


def test_m17_records_before_the_poison_of_a_container_are_facts_and_the_rest_one_dead_letter():
    datums = [datum(LOG, log_record(n)) for n in range(6)]
    datums[3] = b"\xff" * 12
    facts = run(block(LOG, datums))
    assert facts.column("seq") == [0, 1, 2]
    assert facts.errors == ["BAD_AVRO"]
    assert facts.dead[0]["raw_value"] == b"".join(datums[3:])
    assert facts.dead[0]["source_line"] == 3


def test_m17_bytes_left_over_in_a_container_block_are_a_dead_letter():
    facts = run(block(LOG, [datum(LOG, log_record(1)), datum(LOG, log_record(2)) + b"\x07\n"]))
    assert facts.column("seq") == [1, 2]
    assert [letter["raw_value"] for letter in facts.dead] == [b"\x07\n"]


def test_m17_an_incomplete_record_of_a_container_block_is_a_dead_letter_and_its_neighbours_facts():
    records = [log_record(n, device_no="" if n == 2 else "0001") for n in range(4)]
    facts = run(block(LOG, [datum(LOG, record) for record in records]))
    assert (facts.column("seq"), facts.errors) == ([0, 1, 3], ["MISSING_DEVICE_NO"])
    assert facts.dead[0]["raw_value"] == datum(LOG, records[2])


def test_m17_a_container_block_that_holds_fewer_records_than_it_says_has_a_dead_letter():
    short = replace(block(LOG, [datum(LOG, log_record(1))]), count=2)
    facts = run(short)
    assert (facts.column("seq"), facts.errors) == ([1], ["BAD_AVRO"])


def test_m18_a_container_of_no_message_is_a_dead_letter():
    binding = load("device_binding").avro
    facts = run(block({**binding, "name": "Other"}, [b"\x02a"]))
    assert facts.errors == ["UNKNOWN_TYPE"]


@pytest.mark.parametrize(
    "writer",
    [
        "string",
        ["null", LOG],
        {"type": "array", "items": LOG},
        {"type": "enum", "name": "MessageLog", "symbols": ["A"]},
    ],
)
def test_m18_a_container_of_no_records_is_a_dead_letter(writer):
    facts = run(block(writer, [b"\x02a"]))
    assert facts.errors == ["UNKNOWN_TYPE"]


def test_m15_numbers_that_are_none_are_null():
    nan, infinite = float("nan"), float("inf")
    facts = facts_of(frames([
        log_record(1, speed_kmh=nan, lat_deg=nan, lon_deg=nan),
        log_record(2, speed_kmh=infinite, lat_deg=infinite, lon_deg=127.0),
    ]))  # fmt: skip
    for name in ("speed_kmh", "lat_deg", "lon_deg"):
        assert facts.column(name) == [None, None]
    assert all(flags for flags in facts.flags)


def test_m19_values_of_records_are_checked_like_all_others():
    row = facts_of(frames([log_record(speed_kmh=255.0, aux_battery_v=14100.0)])).row
    assert (row["speed_kmh"], row["aux_battery_v"]) == (None, pytest.approx(14.1))
    assert row["quality_flags"] == ["SENTINEL", "UNIT_GUESSED"]


def test_m05_clock_rules_hold_for_records():
    row = facts_of(frames([log_record(device_time=0, received_time=NOON + MINUTE)])).row
    assert (row["event_time"], row["quality_flags"]) == (NOON + MINUTE, ["CLOCK_EPOCH"])
