"""Bytes to uploads: what is refused and why, what is coerced, what is kept (M15-M20, M26)."""

import hashlib
import json

import pytest

from tests.support.uploads import (
    ALWAYS,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    at,
    batch,
    csa,
    encoded,
    fix,
    gps,
    log,
    raw_batch,
    run,
    upload,
)

LIMIT = 262_144


def padded(size):
    """A log upload of exactly `size` bytes."""
    empty = encoded({**log(), "pad": ""})
    return encoded({**log(), "pad": "x" * (size - len(empty))})


def nested(depth):
    """A log upload whose brackets nest `depth` deep."""
    return encoded(log(seq=2))[:-1] + b',"deep":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def without(message, *keys):
    return {key: value for key, value in message.items() if key not in keys}


GOOD = encoded(log())
REFUSED = {
    "EMPTY": [b"", b"   ", b"\r\n", None, gps([])],
    "OVERSIZE": [padded(LIMIT + 1), b"\0" + b"x" * LIMIT, b"$" + b"x" * LIMIT],
    "BAD_ENCODING": [GOOD.replace(b"STS", b"ST\xff"), GOOD.replace(b"STS", b"\xed\xa0\x80")],
    "TRUNCATED_JSON": [b"{", GOOD[:-1], GOOD[:-3], GOOD[:40], GOOD[: GOOD.index(b"STS")]],
    "INVALID_JSON": [
        b"hello", b"[1]", b"null", b"7", b"{'a':1}", GOOD + GOOD, GOOD + b"}",
        GOOD + b"x", GOOD + b" 7",
        GOOD.replace(b'"d":{}', b'"d":{"spd":NaN}'), GOOD.replace(b'"d":{}', b'"d":{"spd":012}'),
        GOOD.replace(b'"d":{}', b'"d":{"spd":Infinity}'), b"\xef\xbb\xbf" + GOOD,
    ],
    "DUPLICATE_KEY": [
        GOOD[:-1] + b',"seq":1}',
        GOOD.replace(b'"d":{}', b'"d":{"spd":null,"spd":43}'),
        GOOD.replace(b'"d":{}', b'"d":{"spd":43,"spd":43}'),
        GOOD.replace(b'"d":{}', b'"d":{},"x":{"a":1,"a":2}'),
        encoded(gps([fix(0)])).replace(b'"sp":60.0', b'"sp":60.0,"sp":61.0'),
    ],
    "TOO_DEEP": [nested(17), nested(5_000)],
    "TOO_MANY_SAMPLES": [gps([fix(n / 10) for n in range(601)])],
    "UNKNOWN_TYPE": [
        upload("trip", 1, NOON), upload("LOG", 1, NOON), {**log(), "type": None},
        {**log(), "type": 3}, without(log(), "type"),
    ],
    "MISSING_DEVICE_NO": [
        without(log(), "device_no"), log(device_no=None), log(device_no=""), log(device_no=" \t "),
    ],
    "SCHEMA": [
        without(log(), "d"), {**log(), "d": []}, {**log(), "d": None}, {**log(), "d": "x"},
        without(gps([fix(0)]), "data"), {**gps([fix(0)]), "data": {}},
        gps([fix(0), 7], received=NOON),
        gps([fix(0), None], received=NOON), gps([[fix(0)]], received=NOON),
    ],
    "NO_TIME": [
        without(log(), "ts", "timestamp"), {**log(ts=None), "timestamp": "yesterday"},
        without(gps([{"lat": 37.5, "lon": 127.0}, {"sp": 3}]), "timestamp"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("error_type", REFUSED)
def test_m17_what_is_no_upload_is_a_dead_letter_of_its_kind_with_its_exact_bytes(error_type):
    messages = REFUSED[error_type]
    facts = run(raw_batch(messages, topic="message-log"))
    assert facts.errors == [error_type] * len(messages)
    stripped = [b"" if m is None else encoded(m).removesuffix(b"\r\n") for m in messages]
    assert [letter["raw_value"] for letter in facts.dead] == stripped
    assert [letter["raw_size"] for letter in facts.dead] == [len(value) for value in stripped]
    assert facts.telemetry == []


@pytest.mark.parametrize("neighbours", [1, 40])
def test_m17_a_poison_message_in_a_batch_is_a_dead_letter_and_its_neighbours_facts(neighbours):
    poison = [b"", b"{", b"\xff", GOOD + GOOD, GOOD[:-1] + b',"seq":1}', b"[1]"]
    messages, expected = [], []
    for number, bad in enumerate(poison):
        for step in range(neighbours):
            expected.append(len(messages))
            messages.append(log(seq=number * neighbours + step, ts=NOON + len(messages)))
        messages.append(bad)
    facts = run(messages)
    assert facts.column("line") == expected
    assert facts.errors == [
        "EMPTY", "TRUNCATED_JSON", "BAD_ENCODING", "INVALID_JSON", "DUPLICATE_KEY", "INVALID_JSON",
    ]  # fmt: skip
    assert facts.good == len(expected)


@pytest.mark.parametrize("level", [b',"x\x80":1}', b',"x":{"y\x80":1}}'])
def test_m17_a_key_that_is_not_utf8_is_a_dead_letter(level):
    facts = run([GOOD[:-1] + level, log(seq=2)])
    assert (facts.errors, facts.column("seq")) == (["BAD_ENCODING"], [2])


def test_m17_a_dead_letter_names_its_place_and_repeats_its_id():
    [letter] = run({"some/object": [log(), b"{"]}).dead
    assert (letter["source_object"], letter["source_line"]) == ("some/object", 1)
    assert letter["dead_letter_id"] == hashlib.sha256(b"some/object|1").hexdigest()[:32]
    assert (letter["stage"], letter["attempt"], letter["received_time"]) == ("DECODE", 0, NOON)
    again = run({"some/object": [log(), b"{"]}).dead
    assert again == [letter]


def test_m17_bounds_are_inclusive():
    facts = run([padded(LIMIT), nested(16), gps([fix(n / 10) for n in range(600)], seq=3)])
    assert facts.errors == []
    assert [row["line"] for row in facts.telemetry] == [0, 1, *[2] * 600]


def test_m18_an_upload_of_unknown_type_is_a_dead_letter():
    facts = run([upload("trip", 1, NOON, d={}), log(seq=2)])
    assert (facts.errors, facts.good) == (["UNKNOWN_TYPE"], 1)


@pytest.mark.parametrize("topic", ["message-log", "message-gps", "message-boot", "elsewhere"])
def test_m18_its_own_type_decides_the_table_whatever_the_topic(topic):
    facts = run(raw_batch([log(spd=1), gps([fix(0)], seq=2)], topic=topic))
    assert facts.errors == []
    assert ["fuel_level_pct" in row for row in facts.telemetry] == [True, False]


COERCED = {
    "spd": [("11.4", pytest.approx(11.4)), (" 11 ", 11.0), ("1e1", 10.0)],
    "odo": [(11.0, 11), ("11", 11), (1e3, 1000)],
    "ign": [(0, False), (1, True), ("true", True)],
    "door": [("6", 6), (6.0, 6)],
}
COLUMN = {"spd": "speed_kmh", "odo": "odometer_m", "ign": "ignition_on", "door": "door_state_bits"}


@pytest.mark.parametrize("key", COERCED)
def test_m15_a_wrong_type_without_loss_is_coerced_and_flagged(key):
    for given, expected in COERCED[key]:
        row = run([log(**{key: given})]).row
        assert row[COLUMN[key]] == expected
        assert row["quality_flags"] == ["TYPE_COERCED"]


INVALID = {
    "spd": ["fast", True, {}, [], "", "0x2B", "NaN"],
    "odo": [11.5, "11.5", True, "28f", 2**63, 1e19],
    "ign": [2, "maybe", 0.5, {}],
    "door": [2**31, -(2**31) - 1, "x"],
}


@pytest.mark.parametrize("key", INVALID)
def test_m15_a_wrong_type_with_loss_is_null_and_flagged(key):
    for given in INVALID[key]:
        row = run([log(bat=12.5, **{key: given})]).row
        assert row[COLUMN[key]] is None
        assert row["quality_flags"] == ["TYPE_INVALID"]
        assert row["aux_battery_v"] == 12.5


def test_m15_a_number_beyond_all_numbers_is_null():
    facts = run([GOOD.replace(b'"d":{}', b'"d":{"spd":1e999,"lat":1e999,"lon":127.0}')])
    assert (facts.row["speed_kmh"], facts.row["lat_deg"], facts.row["lon_deg"]) == (None,) * 3
    assert facts.flags == [["TYPE_INVALID"]]


def test_m15_a_number_for_a_text_is_its_text():
    row = run([log(fw=24)]).row
    assert (row["firmware_version"], row["quality_flags"]) == ("24", ["TYPE_COERCED"])


@pytest.mark.parametrize(
    ("given", "expected", "flags"),
    [
        (NOON // 1000, NOON, ["TYPE_COERCED"]),
        (str(NOON), NOON, ["TYPE_COERCED"]),
        (float(NOON), NOON, ["TYPE_COERCED"]),
        (str(NOON // 1000), NOON, ["TYPE_COERCED"]),
        ("soon", None, ["DEVICE_TIME_MISSING", "TYPE_INVALID"]),
        (NOON + 0.5, None, ["DEVICE_TIME_MISSING", "TYPE_INVALID"]),
    ],
)
def test_m15_a_device_time_in_seconds_or_as_text_is_coerced(given, expected, flags):
    row = run([{**log(received=NOON), "ts": given}]).row
    assert (row["device_time"], row["quality_flags"]) == (expected, flags)


def test_m15_the_boundaries_of_a_ten_digit_time():
    rows = run(
        [
            log(seq=n, ts=ts, received=NOON)
            for n, ts in enumerate([10**9 - 1, 10**9, 10**10 - 1, 10**10])
        ]
    )
    assert rows.column("device_time") == [10**9 - 1, 10**12, 10**13 - 1000, 10**10]
    assert ["TYPE_COERCED" in flags for flags in rows.flags] == [False, True, True, False]


def test_m15_only_an_unusable_device_type_or_time_makes_a_dead_letter():
    wrong = {key: {} for key in ("spd", "odo", "ign", "fuel", "bat", "hd", "tp", "dtc", "rssi")}
    facts = run([{**log(**wrong), "boot": {}, "seq": [], "fw": {}, "up": "x"}])
    assert facts.errors == []
    assert facts.flags == [["TYPE_INVALID"]]


FAR = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z."""


@pytest.mark.parametrize(("ts", "kept"), [(0, True), (-1, False), (FAR, True), (FAR + 1, False)])
@pytest.mark.parametrize("odd", [{}, {"new": 1}])
def test_m15_a_device_time_before_1970_or_after_9999_is_null(ts, kept, odd):
    row = run([{**log(ts=ts, received=NOON), **odd}]).row
    assert row["device_time"] == (ts if kept else None)
    assert ("TYPE_INVALID" in row["quality_flags"]) is not kept
    assert row["event_time"] == NOON


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("1979-12-31T23:59:59GMT", False),
        ("1980-01-01T00:00:00GMT", True),
        ("1980-01-01T08:59:59KST", False),
        ("2199-12-31T23:59:59GMT", True),
        ("2200-01-01T00:00:00GMT", False),
        ("2200-01-01T08:59:59KST", True),
    ],
)
@pytest.mark.parametrize("odd", [{}, {"new": 1}])
def test_m15_a_receive_time_before_1980_or_after_2199_is_unreadable(text, kept, odd):
    row = run(raw_batch([{**log(), "timestamp": text, **odd}], kafka=NOON + 7)).row
    assert (row["received_time"] != NOON + 7) is kept
    assert ("TYPE_INVALID" in row["quality_flags"]) is not kept


def test_m16_unknown_fields_of_an_upload_are_kept_as_json_text_on_all_its_rows():
    facts = run([gps([fix(0), fix(1, x2="a", x1=[1, {"b": None}])], zone="서울", n=1.5)])
    assert [row["extras"] for row in facts.telemetry] == [
        {"n": "1.5", "zone": '"서울"'},
        {"n": "1.5", "zone": '"서울"', "x1": '[1,{"b":null}]', "x2": '"a"'},
    ]
    assert facts.flags == [["EXTRA_FIELDS"]] * 2


def test_m16_an_unknown_field_of_one_sample_stays_on_its_row():
    facts = run([gps([fix(0), fix(1, x=1), fix(2)])])
    assert [row["extras"] for row in facts.telemetry] == [None, {"x": "1"}, None]
    assert facts.flags == [[], ["EXTRA_FIELDS"], []]


def test_m16_a_report_keeps_its_unknown_fields():
    row = run([log(volume=True)]).row
    assert (row["extras"], row["quality_flags"]) == ({"volume": "true"}, ["EXTRA_FIELDS"])


def test_m20_the_adapter_table_scales_by_generation_and_firmware():
    lines = [
        csa(fw=fw, speed=119, time=f"24011512000{n}")
        for n, fw in enumerate(("1.3", "2.0", "2.", "12.0"))
    ]
    facts = run([*lines, log(seq=9, fw="2.0", spd=119)], phones={"01012345678": "0001"})
    expected = [119, 42.84, 42.84, 119, 119]
    assert facts.column("speed_kmh") == [pytest.approx(value, rel=1e-6) for value in expected]


def test_m20_a_value_is_checked_for_sentinels_before_it_is_scaled_and_for_range_after():
    lines = [csa(fw="2.1", speed=255), csa(fw="2.1", speed=820), csa(fw="2.1", speed=840)]
    facts = run(lines, phones={"01012345678": "0001"})
    assert facts.column("speed_kmh") == [None, pytest.approx(295.2, rel=1e-6), None]
    assert [flags[1:] for flags in facts.flags] == [["SENTINEL"], [], ["OUT_OF_RANGE"]]


def test_m26_a_device_no_is_trimmed_and_upper_cased_and_keeps_its_zeros():
    facts = run(
        [log(seq=n, device_no=d) for n, d in enumerate([" 0001", "0001\t", "ab-1", "Ab-1 ", "01"])]
    )
    assert facts.column("device_no") == ["0001", "0001", "AB-1", "AB-1", "01"]
    assert facts.column("binding_status") == ["BOUND", "BOUND", "UNBOUND", "UNBOUND", "UNBOUND"]
    assert facts.flags == [[]] * 5


@pytest.mark.parametrize(
    "device_no", ["ß1", "ŉ1", "ǆ1", "ﬁ1", "\x1c1", "\x851", "\u200b1", "\u30001", "\xa01"]
)
def test_m26_the_normal_form_does_not_depend_on_how_a_message_was_decoded(device_no):
    plain, odd = log(seq=1, device_no=device_no), {**log(seq=2, device_no=device_no), "new": 1}
    one, other = run([plain, odd]).column("device_no")
    assert one == other


def test_m26_variants_of_one_number_are_one_terminal():
    facts = run([log(device_no=device_no) for device_no in ("AB1", " ab1 ", "Ab1")])
    assert (facts.good, facts.duplicates) == (1, 2)


def test_m26_a_csa_phone_number_that_is_the_device_no_is_normalised_too():
    facts = run([csa(phone=" ab1 ")])
    assert facts.column("device_no") == ["AB1"]


def test_m26_a_json_number_becomes_the_one_known_terminal_without_its_zeros():
    bindings = [("00102", "CAR", 0), ("0777", "A", 0), ("00777", "B", 0)]
    facts = run(
        [log(seq=1, device_no=102), log(seq=2, device_no=777), log(seq=3, device_no=5)], bindings
    )
    assert facts.column("device_no") == ["00102"]
    assert facts.flags == [["TYPE_COERCED"]]
    assert facts.errors == ["AMBIGUOUS_DEVICE_NO"] * 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-15T03:00:00GMT", NOON),
        ("2024-01-15T03:00:00UTC", NOON),
        ("2024-01-15T03:00:00Z", NOON),
        ("2024-01-15T12:00:00KST", NOON),
        ("2024-01-15T12:00:00+09:00", NOON),
        ("2024-01-15T12:00:00+0900", NOON),
        ("2024-01-14T22:00:00-05:00", NOON),
        (NOON, NOON),
        (NOON + 123, NOON + 123),
    ],
)
def test_received_time_is_the_timestamp_field(text, expected):
    row = run([{**log(ts=NOON), "timestamp": text}]).row
    assert row["received_time"] == expected
    assert "RECEIVED_TIME_ESTIMATED" not in row["quality_flags"]


UNREADABLE = [
    None, "", "2024-01-15T03:00:00", "2024-02-30T03:00:00GMT", "2024-13-01T03:00:00GMT",
    "2024-01-15T24:00:00GMT", "2024-01-15T03:60:00GMT", "2024-01-15T03:00:60GMT", "noon", {}, True,
]  # fmt: skip


@pytest.mark.parametrize("text", UNREADABLE)
def test_without_a_readable_timestamp_the_kafka_timestamp_counts(text):
    message = {**log(ts=NOON), "timestamp": text}
    row = run(raw_batch([message], kafka=NOON + 7)).row
    assert row["received_time"] == NOON + 7
    assert "RECEIVED_TIME_ESTIMATED" not in row["quality_flags"]


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        (NOON + 5 * MINUTE, NOON + 5 * MINUTE),
        (NOON - HOUR, NOON),
        (NOON + 2 * HOUR, NOON + HOUR - 1),
        (NOON, NOON),
    ],
)
def test_without_any_receive_time_the_device_time_is_clamped_into_the_arrival_hour(ts, expected):
    message = {key: value for key, value in log(ts=ts).items() if key != "timestamp"}
    row = run([message]).row
    assert row["received_time"] == expected
    assert "RECEIVED_TIME_ESTIMATED" in row["quality_flags"]


def test_message_id_is_of_terminal_type_boot_and_seq():
    row = run([log(seq=42, device_no=" ab1")]).row
    assert row["message_id"] == hashlib.sha256(b"AB1|log|1|42").hexdigest()[:32]


@pytest.mark.parametrize("missing", ["boot", "seq"])
def test_message_id_is_of_the_payload_where_boot_or_seq_is_absent(missing):
    message = encoded(without(log(), missing))
    ids = run([message, message + b"\n", message + b"\r\n"]).verdicts
    row = run([message]).row
    assert row["message_id"] == hashlib.sha256(b"0001|log|" + message).hexdigest()[:32]
    assert len(ids) == 2  # the two others are duplicates of the first


def test_message_id_does_not_depend_on_how_a_message_was_decoded():
    plain, odd = log(seq=8, spd=1), {**log(seq=9, spd=1), "new": 1}
    mixed = run([plain, odd]).telemetry
    assert [row["message_id"] for row in mixed] == [
        hashlib.sha256(f"0001|log|1|{seq}".encode()).hexdigest()[:32] for seq in (8, 9)
    ]


def test_the_example_log_is_one_fact(examples):
    facts = run(
        raw_batch([(examples / "sts_log.json").read_bytes()], topic="message-log"),
        [("0102030405", "V", 0)],
    )
    row = facts.row
    expected = {
        "device_no": "0102030405", "vehicle_id": "V", "device_gen": "STS", "seq": 48213,
        "firmware_version": "STS-2.4.1", "boot_count": 17, "uptime_s": None,
        "event_time": 1705278612000, "device_time": 1705278612000, "time_source": "DEVICE",
        "received_time": at("2024-01-15T00:30:13"), "quality_flags": [], "extras": None,
        "lat_deg": 37.5443, "lon_deg": 127.0557, "ignition_on": True, "engine_running": None,
        "speed_kmh": 43.0, "odometer_m": 48213455, "fuel_level_pct": 61.5, "ev_soc_pct": None,
        "aux_battery_v": pytest.approx(14.1), "backup_battery_v": pytest.approx(4.02),
        "engine_rpm": 1632.0, "coolant_temp_c": 88.0, "door_state_bits": 0, "locked": True,
        "headlamp_on": False, "cell_rssi_dbm": -73, "tire_pressure_kpa": [], "dtc_codes": [],
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected


def test_the_example_gps_upload_is_three_facts_and_the_last_has_no_position(examples):
    message = (examples / "sts_gps_batch.json").read_bytes()
    facts = run(raw_batch([message], topic="message-gps"), [("0102030405", "V", 0)])
    assert facts.flags == [[], [], ["GPS_ZERO", "SENTINEL"]]
    assert facts.column("lat_deg") == [37.544301, 37.5443, None]
    assert facts.column("lon_deg") == [127.055702, 127.055838, None]
    assert facts.column("hdop") == [pytest.approx(0.9), pytest.approx(0.9), None]
    assert facts.column("fix_type") == ["THREE_D", "THREE_D", "NONE"]
    assert facts.column("event_time") == [1705278601000, 1705278602000, 1705278603000]
    assert facts.column("speed_kmh") == [pytest.approx(43.2), 43.0, 0.0]
    minute = facts.minute
    assert (minute["n_samples"], minute["n_flagged"], minute["driving_s"]) == (3, 1, 2)
    assert minute["distance_gps_m"] == pytest.approx(11.99, abs=0.01)


def test_lists_and_symbols_have_their_defaults():
    row = run([log()]).row
    assert (row["tire_pressure_kpa"], row["dtc_codes"]) == ([], [])
    sample = run([batch("gps", [{"ts": NOON}])]).row
    assert sample["fix_type"] == "UNKNOWN"
    warning = run([batch("adas", [{"ts": NOON}])]).row
    assert warning["warning_type"] == "NONE"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"tp": [220, None, 218.5]}, {"tire_pressure_kpa": [220.0, 218.5]}),
        ({"tp": [None]}, {"tire_pressure_kpa": []}),
        ({"dtc": ["P0301", None]}, {"dtc_codes": ["P0301"]}),
    ],
)
def test_m15_a_list_with_gaps_loses_them_and_is_flagged_whatever_its_neighbours(given, kept):
    for neighbours in ([], [log(2, tp=[1.0, 2.0]), log(3), log(4, tp=None)]):
        facts = run([log(1, **given), *neighbours])
        assert {name: facts.column(name)[0] for name in kept} == kept
        assert facts.flags[0] == ["TYPE_INVALID"]


@pytest.mark.parametrize(
    ("code", "symbol"),
    [(0, "NONE"), (1, "NONE"), (2, "TWO_D"), (3, "THREE_D"), (4, "DEAD_RECKONING")],
)
def test_a_fix_code_becomes_its_symbol(code, symbol):
    assert run([gps([fix(0, fix=code)])]).row["fix_type"] == symbol


@pytest.mark.parametrize("code", [5, -1, "x", 1.5])
def test_m15_an_unknown_fix_code_is_unknown_and_flagged(code):
    row = run([gps([fix(0, fix=code)])]).row
    assert (row["fix_type"], row["quality_flags"]) == ("UNKNOWN", ["TYPE_INVALID"])


def test_extras_are_json_texts():
    extras = run([{**log(odd='a"b\\c\n', deep={"k": [True, None, 1.25]})}]).row["extras"]
    assert {key: json.loads(text) for key, text in extras.items()} == {
        "odd": 'a"b\\c\n',
        "deep": {"k": [True, None, 1.25]},
    }


def test_an_upload_is_known_again_in_another_batch():
    facts = run({"a": [log(seq=1)], "b": [log(seq=1), log(seq=2, ts=NOON + SECOND)]}, ALWAYS)
    assert (facts.good, facts.duplicates) == (2, 1)
