"""Samples of one upload: their order, their numbers, repeated ones (M01, M03)."""

from tests.support.uploads import NOON, fix, gps, log, run


def test_m03_samples_sent_newest_first_are_sorted_and_numbered_by_device_time():
    facts = run([gps([fix(3, 30), fix(2, 20), fix(0, 0), fix(1, 10)])])
    assert facts.column("sample_idx") == [0, 1, 2, 3]
    assert facts.column("event_time") == [NOON + 1000 * n for n in range(4)]
    assert (
        facts.minute["distance_gps_m"]
        == run([gps([fix(n, n * 10) for n in range(4)])]).minute["distance_gps_m"]
    )


def test_m03_samples_without_a_device_time_come_last_in_their_order():
    facts = run([gps([{"sp": 7}, fix(1), {"sp": 8}, fix(0)], received=NOON + 5000)])
    assert facts.column("speed_kmh") == [60, 60, 7, 8]
    assert facts.column("device_time") == [NOON, NOON + 1000, None, None]
    assert facts.column("time_source") == ["DEVICE"] * 2 + ["RECEIVED_FALLBACK"] * 2
    assert facts.flags == [[], [], ["DEVICE_TIME_MISSING"], ["DEVICE_TIME_MISSING"]]
    assert facts.column("event_time")[2:] == [NOON + 5000] * 2
    assert facts.minute["n_samples"] == 2


def test_m03_samples_of_equal_time_keep_their_order():
    facts = run([gps([fix(1), fix(0, sp=2), fix(0, sp=1), fix(0, sp=3)])])
    assert facts.column("speed_kmh") == [2, 1, 3, 60]


def test_m01_an_identical_sample_of_an_upload_is_dropped_before_numbering_and_counted():
    facts = run([gps([fix(1), fix(0), fix(1), fix(2), fix(0)])])
    assert facts.column("sample_idx") == [0, 1, 2]
    assert facts.column("event_time") == [NOON, NOON + 1000, NOON + 2000]
    assert facts.dropped == 2
    assert facts.minute["n_samples"] == 3


def test_m01_identical_samples_need_not_be_neighbours():
    facts = run([gps([fix(0, sp=1), fix(0, sp=2), fix(0, sp=1)])])
    assert (facts.column("speed_kmh"), facts.dropped) == ([1, 2], 1)


def test_m01_samples_that_differ_in_any_field_stay():
    facts = run([gps([fix(0), fix(0, nos=7), fix(0, x=1), fix(0, x=2), fix(0, 0.01)])])
    assert (len(facts.telemetry), facts.dropped) == (5, 0)


def test_m01_identical_samples_without_a_device_time_are_dropped():
    facts = run([gps([{"sp": 1}, fix(0), {"sp": 1}, {"sp": 2}])])
    assert (facts.column("speed_kmh"), facts.dropped) == ([60, 1, 2], 1)


def test_m01_equal_samples_of_two_uploads_both_stay():
    facts = run([gps([fix(0)], seq=1), gps([fix(0)], seq=2)])
    assert (len(facts.telemetry), facts.dropped, facts.duplicates) == (2, 0, 0)


def test_a_report_is_one_sample():
    assert run([log()]).column("sample_idx") == [0]
