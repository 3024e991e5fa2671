"""Which terminal's clock is believed, and what is done about the others (M04-M08)."""

import pytest

from tests.support.uploads import DAY, HOUR, MINUTE, NOON, SECOND, at, boot, fix, gps, log, run

HALF_HOUR = 30 * MINUTE
ROLLOVER = 7168 * DAY


def off_by(*differences, step=MINUTE, **more):
    """Logs received `step` apart from NOON on, whose clocks are ahead by `differences` ms."""
    return [
        log(seq=n, ts=NOON + n * step + difference, received=NOON + n * step, **more)
        for n, difference in enumerate(differences)
    ]


def source_of(messages):
    return run(messages).column("time_source")


def test_m04_an_upload_hours_late_has_a_good_clock():
    row = run([log(ts=NOON - 20 * HOUR + MINUTE, received=NOON)]).row
    assert row["event_time"] == NOON - 20 * HOUR + MINUTE
    assert (row["time_source"], row["quality_flags"]) == ("DEVICE", [])


def test_m04_a_burst_of_buffered_uploads_is_no_zone_error():
    burst = [
        log(seq=n, ts=NOON - 4 * HOUR - HALF_HOUR + n * 10 * SECOND, received=NOON + n * SECOND)
        for n in range(6)
    ]
    facts = run(burst)
    assert facts.column("time_source") == ["DEVICE"] * 6
    assert facts.column("event_time") == [m["ts"] for m in burst]
    assert facts.minutes[0]["minute"] == NOON - 4 * HOUR - HALF_HOUR


@pytest.mark.parametrize(
    ("received_step", "corrected"), [(30 * SECOND, True), (29 * SECOND, False)]
)
def test_m04_receive_times_that_span_half_of_the_device_times_are_no_burst(
    received_step, corrected
):
    messages = [
        log(seq=n, ts=NOON - HOUR - 80 * SECOND + n * MINUTE, received=NOON + n * received_step)
        for n in range(5)
    ]
    expected = "DEVICE_CORRECTED" if corrected else "DEVICE"
    assert source_of(messages) == [expected] * 5


EPOCH_EDGES = [
    (-DAY - 1, False),
    (-DAY, True),
    (0, True),
    (30 * DAY - 1, True),
    (30 * DAY + 1, False),
]


@pytest.mark.parametrize(
    ("epoch", "shift", "is_epoch"),
    [
        ("1970-01-01", 0, True),
        ("1970-01-01", 11 * DAY, True),
        *(("1980-01-06", *edge) for edge in EPOCH_EDGES),
        *(("2000-01-01", *edge) for edge in EPOCH_EDGES),
    ],
)
def test_m05_a_clock_from_a_day_before_to_thirty_days_after_an_epoch(epoch, shift, is_epoch):
    ts = at(epoch) + shift
    received = max(ts + 47 * DAY + 11 * MINUTE, at("1980-01-01")) // 1000 * 1000
    row = run([log(ts=ts, received=received)]).row
    assert row["quality_flags"] == (["CLOCK_EPOCH"] if is_epoch else [])
    assert row["event_time"] == (received if is_epoch else ts)


def epoch_log(seq, seconds, received, **more):
    return log(seq=seq, ts=at("2000-01-01") + seconds * SECOND, received=received, **more)


def test_m05_an_epoch_upload_is_dated_by_a_good_upload_of_the_same_boot():
    facts = run([
        epoch_log(1, 7, NOON, up=12),
        log(seq=2, ts=NOON + 49 * SECOND, received=NOON + 50 * SECOND, up=60),
    ])  # fmt: skip
    first = facts.telemetry[0]
    assert first["event_time"] == NOON - 11 * SECOND + 12 * SECOND
    assert (first["time_source"], first["quality_flags"]) == ("DEVICE_CORRECTED", ["CLOCK_EPOCH"])


def test_m05_without_uptime_of_its_own_the_time_since_the_epoch_counts():
    facts = run([
        epoch_log(1, 7, NOON),
        log(seq=2, ts=NOON + 50 * SECOND, received=NOON + 50 * SECOND, up=60),
    ])  # fmt: skip
    assert facts.column("event_time")[0] == NOON - 10 * SECOND + 7 * SECOND


def test_m05_the_earliest_good_upload_by_received_time_dates_the_boot():
    facts = run([
        epoch_log(1, 7, NOON),
        log(seq=3, ts=NOON + 130 * SECOND, received=NOON + 130 * SECOND, up=100),
        log(seq=2, ts=NOON + 50 * SECOND, received=NOON + 50 * SECOND, up=60),
    ])  # fmt: skip
    assert facts.column("event_time")[0] == NOON - 3 * SECOND


@pytest.mark.parametrize(
    "good",
    [
        {"boot": 2, "up": 60},
        {"device_no": "0002", "up": 60},
        {},
        {"up": 60, "boot": None},
    ],
)
def test_m05_another_boot_or_terminal_or_no_uptime_dates_nothing(good):
    facts = run([epoch_log(1, 7, NOON), log(seq=2, ts=NOON, received=NOON, **good)])
    row = facts.telemetry[0]
    assert (row["event_time"], row["time_source"]) == (NOON, "RECEIVED_FALLBACK")


def test_m05_a_bad_clock_dates_nothing():
    facts = run([epoch_log(1, 7, NOON), log(seq=2, ts=NOON + HOUR // 3, received=NOON, up=60)])
    assert facts.column("time_source") == ["RECEIVED_FALLBACK"] * 2


@pytest.mark.parametrize(("late", "source"), [(0, "DEVICE_CORRECTED"), (1, "RECEIVED_FALLBACK")])
def test_m05_a_date_later_than_received_plus_five_minutes_is_not_used(late, source):
    good = log(seq=2, ts=NOON, received=NOON, up=0)
    row = run([epoch_log(1, 300 + late, NOON), good]).telemetry[0]
    assert (row["time_source"], row["event_time"]) == (
        source, NOON + 300 * SECOND if not late else NOON
    )  # fmt: skip


def test_m05_all_samples_of_an_epoch_upload_move_together():
    start = at("1980-01-06")
    samples = [{"ts": start + n * SECOND, "sp": n} for n in (1, 2, 3)]
    facts = run([
        gps(samples, seq=1, received=NOON + 3 * SECOND, up=10),
        log(seq=2, ts=NOON + 5 * SECOND, received=NOON + 5 * SECOND, up=15),
    ])  # fmt: skip
    assert facts.column("event_time")[:3] == [NOON - 2 * SECOND, NOON - SECOND, NOON]
    assert facts.minutes[1]["n_samples"] == 2


def test_m05_an_upload_of_several_samples_that_fell_back_stays_out_of_the_minutes():
    samples = [{"ts": at("1970-01-01") + n * SECOND, "sp": n} for n in (1, 2, 3)]
    facts = run([gps(samples, received=NOON)])
    assert facts.column("event_time") == [NOON] * 3
    assert facts.minutes == []
    assert run([gps(samples[:1], received=NOON)]).minute["n_samples"] == 1


@pytest.mark.parametrize(
    ("ahead", "source", "flags"),
    [
        (300_000, "DEVICE", []),
        (300_001, "RECEIVED_FALLBACK", ["CLOCK_FUTURE"]),
        (24 * HOUR, "RECEIVED_FALLBACK", ["CLOCK_FUTURE"]),
        (24 * HOUR + 1, "RECEIVED_FALLBACK", ["CLOCK_FUTURE"]),
    ],
)
def test_m06_exactly_five_minutes_ahead_is_good_and_more_is_not(ahead, source, flags):
    row = run([log(ts=NOON + ahead, received=NOON)]).row
    assert (row["time_source"], row["quality_flags"]) == (source, flags)
    assert row["event_time"] == (NOON + ahead if source == "DEVICE" else NOON)


def test_m06_three_clocks_equally_ahead_are_set_back_by_their_median():
    facts = run(off_by(400_000, 404_999, 401_000))
    assert facts.column("time_source") == ["DEVICE_CORRECTED"] * 3
    assert facts.flags == [["CLOCK_FUTURE"]] * 3
    assert facts.column("event_time") == [
        NOON - 1000, NOON + MINUTE + 3999, NOON + 2 * MINUTE,
    ]  # fmt: skip


def test_m06_of_an_even_run_the_lower_median_counts():
    facts = run(off_by(400_000, 401_000, 402_000, 403_000))
    assert facts.column("event_time")[0] == NOON - 1000


@pytest.mark.parametrize(
    "differences",
    [
        (400_000, 400_000),
        (400_000, 405_000, 400_000),
        (400_000, 400_000, 0, 400_000),
        (400_000, 400_000, 24 * HOUR + 1, 400_000),
    ],
)
def test_m06_fewer_or_unsteady_or_interrupted_clocks_fall_back(differences):
    messages = off_by(*differences)
    facts = run(messages)
    assert facts.column("time_source") == [
        "DEVICE" if difference == 0 else "RECEIVED_FALLBACK" for difference in differences
    ]


def test_m06_runs_are_cut_greedily_in_received_order():
    facts = run(off_by(400_000, 402_000, 404_000, 406_000, 407_000))
    assert facts.column("time_source") == ["DEVICE_CORRECTED"] * 3 + ["RECEIVED_FALLBACK"] * 2


def test_m06_a_run_is_of_one_terminal_and_leaves_duplicates_out():
    one, two, three = off_by(400_000, 400_000, 400_000)
    assert source_of([one, two, {**three, "device_no": "0002"}]) == ["RECEIVED_FALLBACK"] * 3
    assert source_of([one, two, two]) == ["RECEIVED_FALLBACK"] * 2
    between = log(seq=9, ts=NOON, received=NOON + 30 * SECOND, device_no="0002")
    assert set(source_of([one, between, two, three])) == {"DEVICE", "DEVICE_CORRECTED"}


def test_m06_the_latest_sample_decides_for_the_whole_upload():
    ahead = gps([fix(0), fix(301)], received=NOON)
    facts = run([ahead])
    assert facts.column("event_time") == [NOON, NOON]
    assert facts.flags == [["CLOCK_FUTURE"]] * 2
    assert facts.minutes == []


@pytest.mark.parametrize("turns", [1, 2])
def test_m07_a_clock_1024_weeks_behind_is_brought_back(turns):
    row = run([log(ts=NOON - turns * ROLLOVER, received=NOON)]).row
    assert row["event_time"] == NOON
    assert (row["time_source"], row["quality_flags"]) == (
        "DEVICE_CORRECTED", ["GPS_ROLLOVER_CORRECTED"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("late", "flags", "event"),
    [
        (-5 * MINUTE, ["GPS_ROLLOVER_CORRECTED"], NOON + 5 * MINUTE),
        (-5 * MINUTE - 1, ["CLOCK_EPOCH"], NOON),
        (90 * DAY, ["GPS_ROLLOVER_CORRECTED"], NOON - 90 * DAY),
        (90 * DAY + 1, ["CLOCK_EPOCH"], NOON),
    ],
)
def test_m07_it_must_come_to_lie_between_ninety_days_before_and_five_minutes_after(
    late, flags, event
):
    row = run([log(ts=NOON - late - ROLLOVER, received=NOON)]).row
    assert (row["quality_flags"], row["event_time"]) == (flags, event)


@pytest.mark.parametrize(
    ("age", "rolled"), [(ROLLOVER - 90 * DAY, False), (ROLLOVER - 90 * DAY + 1, True)]
)
def test_m07_a_clock_less_than_1024_weeks_less_ninety_days_behind_is_late_only(age, rolled):
    row = run([log(ts=NOON - age, received=NOON)]).row
    assert row["quality_flags"] == (["CLOCK_EPOCH"] if rolled else [])
    assert row["event_time"] == (NOON if rolled else NOON - age)


@pytest.mark.parametrize("k", [-28, -18, -2, -1, 1, 2, 16, 18, 28])
def test_m08_five_clocks_off_by_the_same_half_hours_are_corrected(k):
    facts = run(off_by(*[k * HALF_HOUR] * 5))
    assert facts.column("time_source") == ["DEVICE_CORRECTED"] * 5
    assert facts.flags == [["TZ_CORRECTED"]] * 5
    assert facts.column("event_time") == [NOON + n * MINUTE for n in range(5)]


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([90 * SECOND, -90 * SECOND, 0, 45, -45], True),
        ([90_001, 0, 0, 0, 0], False),
        ([-90_001, 0, 0, 0, 0], False),
    ],
)
def test_m08_ninety_seconds_around_the_half_hour_are_inclusive(differences, expected):
    facts = run(off_by(*(-18 * HALF_HOUR + d for d in differences), step=5 * MINUTE))
    assert ([flags == ["TZ_CORRECTED"] for flags in facts.flags] == [True] * 5) is expected
    assert facts.column("event_time")[0] == NOON + differences[0] - (0 if expected else 9 * HOUR)


def test_m08_four_clocks_behind_are_suspect_and_go_on_as_late():
    facts = run(off_by(*[-18 * HALF_HOUR] * 4))
    assert facts.flags == [["TZ_SUSPECT"]] * 4
    assert facts.column("time_source") == ["DEVICE"] * 4
    assert facts.column("event_time")[0] == NOON - 9 * HOUR


def test_m08_four_clocks_ahead_are_suspect_and_go_on_as_future():
    facts = run(off_by(*[18 * HALF_HOUR] * 4))
    assert [sorted(flags) for flags in facts.flags] == [["CLOCK_FUTURE", "TZ_SUSPECT"]] * 4
    assert facts.column("time_source") == ["DEVICE_CORRECTED"] * 4
    assert facts.column("event_time")[0] == NOON


@pytest.mark.parametrize("odd", [0, 17 * HALF_HOUR, 29 * HALF_HOUR, 10 * MINUTE])
def test_m08_an_upload_of_another_offset_ends_the_run(odd):
    nine = 18 * HALF_HOUR
    facts = run(off_by(-nine, -nine, -nine, -odd, -nine, -nine))
    assert ["TZ_CORRECTED" in flags for flags in facts.flags] == [False] * 6


def test_m08_more_than_fourteen_hours_are_no_zone():
    facts = run(off_by(*[-29 * HALF_HOUR] * 5))
    assert facts.flags == [[]] * 5


def test_m08_runs_are_of_one_terminal_in_received_order():
    mine = off_by(*[-18 * HALF_HOUR] * 5)
    other = [{**m, "device_no": "0002", "ts": m["ts"] + 9 * HOUR} for m in mine]
    facts = run([message for pair in zip(reversed(mine), other, strict=True) for message in pair])
    flags = [row["quality_flags"] for row in facts.telemetry if row["device_no"] == "0001"]
    assert flags == [["TZ_CORRECTED"]] * 5


def test_an_upload_without_any_device_time_falls_back():
    facts = run([log(ts=None, received=NOON), gps([{"sp": 1}, {"sp": 2}], received=NOON, seq=2)])
    assert facts.column("event_time") == [NOON] * 3
    assert facts.column("time_source") == ["RECEIVED_FALLBACK"] * 3
    assert facts.flags == [["DEVICE_TIME_MISSING"]] * 3
    assert facts.minute["n_samples"] == 1


def test_the_correction_of_an_upload_moves_the_boot_too():
    facts = run([boot(seq=1, ts=NOON - ROLLOVER, received=NOON)])
    assert facts.row["event_time"] == NOON
