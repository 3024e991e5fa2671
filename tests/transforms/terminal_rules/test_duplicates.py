"""Several uploads with one message_id (M01, M02)."""

import pytest

from tests.support.uploads import DAY, HOUR, NOON, fix, gps, log, run


def test_m01_the_same_upload_again_counts_once():
    facts = run([log(spd=5), log(spd=5), log(spd=5)])
    assert (facts.good, facts.duplicates, len(facts.telemetry)) == (1, 2, 1)
    assert facts.minute["n_samples"] == 1
    assert facts.flags == [[]]


def test_m01_a_duplicate_hours_later_in_another_object_counts_once():
    facts = run(
        {"b": [log(ts=NOON, received=NOON)], "a": [log(ts=NOON, received=NOON + 20 * HOUR)]}
    )
    assert (facts.good, facts.row["object"], facts.row["received_time"]) == (1, "b", NOON)
    assert facts.flags == [[]]


def test_m01_the_first_by_received_time_then_object_then_line_counts():
    late, early = log(ts=NOON, received=NOON + 1000), log(ts=NOON, received=NOON)
    assert (run([late, early]).row["line"], run([early, late]).row["line"]) == (1, 0)
    assert run({"y": [early], "x": [early, early]}).row["object"] == "x"
    assert run({"y": [early], "x": [early, early]}).row["line"] == 0


def test_m01_terminals_types_boots_and_sequences_are_apart():
    uploads = [
        log(), log(seq=2), log(boot=2), log(device_no="0002"), gps([fix(0)], seq=1),
    ]  # fmt: skip
    facts = run(uploads)
    assert (facts.good, facts.duplicates) == (5, 0)


def test_m02_the_richer_upload_is_shown_and_the_first_feeds_the_minutes():
    first = log(ts=NOON, received=NOON, spd=5)
    richer = log(ts=NOON, received=NOON + DAY, spd=7, bat=12.5)
    facts = run([richer, first])
    row = facts.row
    assert (row["line"], row["speed_kmh"], row["aux_battery_v"]) == (0, 7, 12.5)
    assert row["quality_flags"] == ["DUP_DIFF"]
    assert (facts.good, facts.duplicates) == (1, 1)
    minute = facts.minute
    assert (minute["speed_sum_kmh"], minute["aux_battery_min_v"], minute["n_samples"]) == (
        5,
        None,
        1,
    )
    assert minute["n_flagged"] == 1


def test_m02_with_equally_many_fields_the_first_is_shown():
    facts = run([log(received=NOON + 1000, spd=7), log(received=NOON, spd=5)])
    assert (facts.row["speed_kmh"], facts.row["line"]) == (5, 1)
    assert facts.flags == [["DUP_DIFF"]]


def test_m02_the_richest_of_three_is_shown_even_if_two_are_equal():
    facts = run([log(spd=5), log(spd=5), log(spd=5, bat=12, hd=1), log(spd=5, bat=12)])
    assert (facts.row["line"], facts.good, facts.duplicates) == (2, 1, 3)


@pytest.mark.parametrize(
    "other",
    [
        {"seq": 1, "spd": 5.0},
        {"seq": 1, "spd": 5, "received": NOON + HOUR},
        {"seq": 1, "spd": "5"},
        {"seq": 1, "spd": 5, "bat": None},
    ],
)
def test_m02_content_is_compared_after_decoding_without_the_receive_time(other):
    facts = run([log(seq=1, spd=5, received=NOON), log(**({"received": NOON} | other))])
    assert facts.duplicates == 1
    assert "DUP_DIFF" not in facts.row["quality_flags"]


@pytest.mark.parametrize(
    "other",
    [
        {"spd": 6},
        {"spd": 5, "fw": "9"},
        {"spd": 5, "up": 3},
        {"spd": 5, "new": 1},
        {"spd": 5, "tp": [200]},
    ],
)
def test_m02_any_other_difference_is_flagged(other):
    facts = run([log(spd=5), log(**other)])
    assert "DUP_DIFF" in facts.row["quality_flags"]


def test_m02_the_order_of_samples_is_no_difference():
    facts = run([gps([fix(0), fix(1, 5)]), gps([fix(1, 5), fix(0)])])
    assert (facts.duplicates, facts.flags) == (1, [[], []])


def test_m02_more_samples_are_richer():
    facts = run([gps([fix(0)], received=NOON), gps([fix(0), fix(1, 5)], received=NOON + 2000)])
    assert len(facts.telemetry) == 2
    assert facts.minute["n_samples"] == 1


def test_m01_a_duplicate_takes_the_clock_of_the_upload_that_counts():
    future = [
        log(seq=n, ts=NOON + n * 60_000 + HOUR // 3, received=NOON + n * 60_000) for n in range(3)
    ]
    richer = {**future[0], "timestamp": "2024-01-16T03:00:00GMT", "d": {"bat": 12}}
    facts = run([*future, richer])
    [row] = [row for row in facts.telemetry if row["seq"] == 0]
    assert (row["line"], row["event_time"], row["time_source"]) == (3, NOON, "DEVICE_CORRECTED")


def test_m01_a_shown_duplicate_of_a_fallback_is_dated_by_the_upload_that_counts():
    first = log(ts=None, received=NOON)
    richer = log(ts=None, received=NOON + HOUR, bat=12)
    facts = run([first, richer])
    assert (facts.row["event_time"], facts.row["aux_battery_v"]) == (NOON, 12)
    assert facts.row["received_time"] == NOON + HOUR
