"""Rules over a terminal's history (M14, M24, M25)."""

import pytest

from tests.support.uploads import MINUTE, NOON, SECOND, boot, log, run


def odometers(*metres, **more):
    return [log(seq=n, ts=NOON + n * MINUTE, odo=value, **more) for n, value in enumerate(metres)]


def test_m14_an_odometer_that_decreases_is_a_reset_and_the_new_baseline():
    facts = run(odometers(1000, 1100, 50, 60, 40))
    assert facts.flags == [[], [], ["ODO_RESET"], [], ["ODO_RESET"]]
    assert [minute["odo_resets"] for minute in facts.minutes] == [0, 0, 1, 0, 1]
    assert facts.column("odometer_m") == [1000, 1100, 50, 60, 40]


def test_m14_an_equal_or_missing_odometer_is_no_reset():
    assert run(odometers(1000, 1000, None, 1000, 4294967295, 1000)).flags == [
        [], [], [], [], ["SENTINEL"], [],
    ]  # fmt: skip
    assert run(odometers(1000, None, 900)).flags == [[], [], ["ODO_RESET"]]


def test_m14_the_order_is_that_of_event_time_not_of_arrival():
    first, second, third = odometers(1000, 1100, 1200)
    facts = run([third, {**second, "timestamp": "2024-01-15T06:07:00GMT"}, first])
    assert facts.flags == [[], [], []]


def test_m14_terminals_are_apart_and_duplicates_left_out():
    one = odometers(1000, 1100)
    other = [{**m, "device_no": "0002", "d": {"odo": m["d"]["odo"] - 900}} for m in one]
    assert run([*one, *other]).flags == [[]] * 4
    late = {**one[0], "timestamp": "2024-01-15T06:07:00GMT"}
    assert run([*one, late]).flags == [[]] * 2


def swaps(*vehicles):
    """Bindings of terminal 0001 that change every minute from NOON on."""
    edges = [0, *(NOON + n * MINUTE for n in range(1, len(vehicles))), None]
    return [("0001", v, edges[n], edges[n + 1]) for n, v in enumerate(vehicles)]


def test_m14_another_vehicle_has_another_odometer():
    assert run(odometers(1000, 500), swaps("A", "B")).flags == [[], []]


def test_m14_the_previous_odometer_in_the_same_vehicle_counts_after_a_swap_and_back():
    facts = run(odometers(1000, 500, 900), swaps("A", "B", "A"))
    assert facts.flags == [[], [], ["ODO_RESET"]]
    assert run(odometers(1000, 500, 1001), swaps("A", "B", "A")).flags == [[]] * 3


def boots(*seconds, **more):
    return [boot(seq=n, ts=NOON + s * SECOND, **{"boot": n, **more}) for n, s in enumerate(seconds)]


@pytest.mark.parametrize(
    ("seconds", "looping"),
    [
        ((0, 300), ()),
        ((0, 300, 600), (0, 1, 2)),
        ((0, 300, 601), ()),
        ((0, 300, 600, 1200), (0, 1, 2)),
        ((0, 300, 600, 900), (0, 1, 2, 3)),
        ((0, 700, 800, 900, 1600), (1, 2, 3)),
    ],
)
def test_m24_three_boots_within_ten_minutes_are_a_loop(seconds, looping):
    flags = run(boots(*seconds)).flags
    assert flags == [["REBOOT_LOOP"] if n in looping else [] for n in range(len(seconds))]


def test_m24_boots_of_other_terminals_and_other_uploads_do_not_count():
    one, two, three = boots(0, 100, 200)
    assert run([one, two, {**three, "device_no": "0002"}]).flags == [[]] * 3
    assert run([one, two, two]).flags == [[]] * 2
    logs = [log(seq=9 + n, ts=NOON + n * SECOND) for n in range(3)]
    assert run([*logs, *boots(0, 100)]).flags == [[]] * 5


def test_m24_a_sequence_that_starts_again_with_a_new_boot_is_no_duplicate():
    facts = run([log(seq=1, boot=1), log(seq=1, boot=2, ts=NOON + SECOND)])
    assert (facts.good, facts.duplicates) == (2, 0)


def ignition(*reports):
    """Logs of (seconds, on)."""
    return [log(seq=n, ts=NOON + s * SECOND, ign=on) for n, (s, on) in enumerate(reports)]


def chatter(*reports):
    return [index for index, flags in enumerate(run(ignition(*reports)).flags) if flags]


def test_m25_a_run_shorter_than_thirty_seconds_between_opposite_ones_is_chatter():
    assert chatter((0, True), (60, False), (89, True)) == [1]
    assert chatter((0, True), (60, False), (90, True)) == []
    assert chatter((0, True), (60, False), (80, False), (89, True)) == [1, 2]


def test_m25_the_first_and_last_run_are_never_chatter():
    assert chatter((0, False), (10, True), (60, True)) == []
    assert chatter((0, True), (60, False), (70, False)) == []


def test_m25_the_state_before_counts_in_the_minutes_and_the_column_keeps_the_report():
    facts = run(ignition((0, True), (60, False), (80, True), (120, True)))
    assert facts.column("ignition_on") == [True, False, True, True]
    assert facts.flags[1] == ["IGNITION_CHATTER"]
    assert [m["ignition_on_s"] for m in facts.minutes] == [60, 120, 60]
    off = run(ignition((0, False), (60, True), (80, False), (120, False)))
    assert [m["ignition_on_s"] for m in off.minutes] == [0, 0, 0]


def test_m25_after_several_short_runs_the_last_steady_state_counts():
    reports = ((0, True), (60, False), (70, True), (80, False), (85, True), (120, True))
    facts = run(ignition(*reports))
    assert [m["ignition_on_s"] for m in facts.minutes] == [60, 240, 60]
    assert [bool(flags) for flags in facts.flags] == [False, True, True, True, False, False]


def test_m25_reports_without_ignition_and_other_terminals_do_not_end_a_run():
    on, off, on_again = ignition((0, True), (60, False), (80, True))
    silent = log(seq=8, ts=NOON + 70 * SECOND)
    other = log(seq=9, ts=NOON + 65 * SECOND, ign=True, device_no="0002")
    facts = run([on, off, silent, other, on_again])
    assert [bool(flags) for flags in facts.flags] == [False, True, False, False, False]
