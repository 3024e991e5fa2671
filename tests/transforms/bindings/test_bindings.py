"""Which vehicle a terminal sat in, as of event time (M21, M22)."""

from tests.support.uploads import HOUR, NOON, SECOND, fix, gps, log, run

SWAP = NOON + 2 * SECOND
SWAPPED = [("0001", "OLD", 0, SWAP), ("0001", "NEW", SWAP)]


def vehicles(rows, ts=NOON):
    row = run([log(ts=ts)], rows).row
    return row["vehicle_id"], row["binding_status"]


def test_m21_an_unbound_upload_is_kept_without_vehicle_and_makes_no_minutes():
    facts = run([log(device_no="9999"), gps([fix(0)], device_no="9999")])
    assert facts.column("binding_status") == ["UNBOUND"] * 2
    assert facts.column("vehicle_id") == facts.column("binding_version") == [None] * 2
    assert (facts.minutes, facts.good, facts.dead) == ([], 2, [])


def test_m21_before_after_and_between_bindings_a_terminal_is_unbound():
    rows = [("0001", "A", NOON - HOUR, NOON - 1), ("0001", "B", NOON + 1, NOON + HOUR)]
    for ts in (NOON - HOUR - 1, NOON - 1, NOON, NOON + HOUR):
        assert vehicles(rows, ts) == (None, "UNBOUND")
    assert vehicles(rows, NOON - HOUR) == ("A", "BOUND")
    assert vehicles(rows, NOON + HOUR - 1) == ("B", "BOUND")


def test_m22_the_swap_instant_belongs_to_the_new_vehicle():
    assert vehicles(SWAPPED, SWAP - 1) == ("OLD", "BOUND")
    assert vehicles(SWAPPED, SWAP) == ("NEW", "BOUND")


def test_m22_the_event_time_decides_not_the_arrival():
    row = run([log(ts=SWAP - 1, received=NOON + HOUR)], SWAPPED).row
    assert row["vehicle_id"] == "OLD"


def test_m22_an_upload_that_spans_a_swap_is_split_by_sample():
    facts = run([gps([fix(n, n * 20) for n in range(5)])], SWAPPED)
    assert facts.column("vehicle_id") == ["OLD", "OLD", "NEW", "NEW", "NEW"]
    assert [(m["vehicle_id"], m["n_samples"]) for m in facts.minutes] == [("NEW", 3), ("OLD", 2)]
    new, old = facts.minutes
    assert (round(old["distance_gps_m"], 6), round(new["distance_gps_m"], 6)) == (20, 40)


def test_m22_an_upload_that_spans_a_swap_away_and_back_is_split_too():
    rows = [
        ("0001", "A", 0, SWAP),
        ("0001", "B", SWAP, SWAP + SECOND),
        ("0001", "A", SWAP + SECOND),
    ]
    facts = run([gps([fix(n, n * 20) for n in range(5)])], rows)
    assert facts.column("vehicle_id") == ["A", "A", "B", "A", "A"]


def test_m22_an_upload_that_spans_a_gap_and_returns_to_the_same_vehicle_is_split():
    rows = [("0001", "A", 0, SWAP), ("0001", "A", SWAP + SECOND)]
    facts = run([gps([fix(n, n * 20) for n in range(5)])], rows)
    assert facts.column("binding_status") == ["BOUND", "BOUND", "UNBOUND", "BOUND", "BOUND"]
    assert facts.minute["distance_gps_m"] == 40 or abs(facts.minute["distance_gps_m"] - 40) < 1e-6


def test_m22_the_corrected_event_time_is_looked_up():
    late = [
        log(seq=n, ts=NOON + n * 60_000 - 9 * HOUR, received=NOON + n * 60_000) for n in range(5)
    ]
    rows = [("0001", "NIGHT", 0, NOON - HOUR), ("0001", "DAY", NOON - HOUR)]
    assert set(run(late, rows).column("vehicle_id")) == {"DAY"}
    assert set(run(late[:4], rows).column("vehicle_id")) == {"NIGHT"}


def test_m22_the_highest_version_of_an_interval_stands():
    rows = [
        ("0001", "WRONG", NOON, None, 1), ("0001", "RIGHT", NOON, None, 3),
        ("0001", "OTHER", NOON, None, 2),
    ]  # fmt: skip
    row = run([log()], rows).row
    assert (row["vehicle_id"], row["binding_version"]) == ("RIGHT", 3)


def test_m22_a_correction_that_ends_where_it_begins_takes_a_binding_back():
    rows = [("0001", "WRONG", NOON, None, 1), ("0001", "WRONG", NOON, NOON, 2)]
    assert vehicles(rows) == (None, "UNBOUND")


def test_m22_two_vehicles_at_one_instant_are_ambiguous_and_make_no_minutes():
    rows = [("0001", "A", 0), ("0001", "B", NOON, NOON + SECOND)]
    facts = run([gps([fix(-1), fix(0), fix(0.999, 1), fix(1, 9)])], rows)
    assert facts.column("binding_status") == ["BOUND", "AMBIGUOUS", "AMBIGUOUS", "BOUND"]
    assert facts.column("vehicle_id") == ["A", None, None, "A"]
    assert sum(m["n_samples"] for m in facts.minutes) == 2


def test_m22_the_same_vehicle_twice_is_not_ambiguous():
    rows = [("0001", "A", 0, None, 1), ("0001", "A", NOON - HOUR, NOON + HOUR, 2)]
    row = run([log()], rows).row
    assert (row["vehicle_id"], row["binding_version"]) == ("A", 2)


def test_m22_bindings_of_other_terminals_do_not_matter():
    rows = [("00001", "X", 0), ("001", "Y", 0), ("0001 ", "Z", 0), ("0001", "A", 0)]
    assert vehicles(rows) == ("A", "BOUND")


def test_m22_long_terminal_numbers_are_told_apart():
    numbers = ["D" * width for width in (7, 8, 9, 16, 17, 40)]
    rows = [(number, f"V{len(number)}", 0) for number in numbers]
    facts = run([log(seq=n, device_no=number) for n, number in enumerate(numbers)], rows)
    assert facts.column("vehicle_id") == [f"V{len(number)}" for number in numbers]
