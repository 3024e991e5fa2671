"""Which values and positions are believed (M10-M13, M19)."""

import numpy as np
import pytest

from tests.support.uploads import HOME, METRES_PER_DEGREE, NOON, batch, fix, gps, log, run
from transforms.model.thresholds import Position, Rules
from transforms.upload_rules.quality import distance_m


def test_m10_position_zero_zero_is_nulled_flagged_and_adds_no_distance():
    facts = run([gps([fix(0, 0), fix(1, lat=0.0, lon=0.0), fix(2, 40)])])
    assert facts.flags == [[], ["GPS_ZERO"], []]
    assert facts.column("lat_deg")[1] is facts.column("lon_deg")[1] is None
    assert facts.column("speed_kmh") == [60, 60, 60]
    assert facts.minute["distance_gps_m"] == pytest.approx(40)


@pytest.mark.parametrize(
    ("lat", "lon", "zero"),
    [
        (0, 0, True), (-0.0, 0.0, True), (9.9e-7, -9.9e-7, True), (1e-6, 0.0, False),
        (0.0, 1e-6, False), (0.0, 127.0, False), (37.5, 0.0, False),
    ],
)  # fmt: skip
def test_m10_both_must_be_below_a_millionth_of_a_degree(lat, lon, zero):
    for message in (gps([fix(0, lat=lat, lon=lon)]), log(lat=lat, lon=lon)):
        row = run([message]).row
        assert (row["lat_deg"] is None, row["quality_flags"]) == (
            zero,
            ["GPS_ZERO"] if zero else [],
        )


def test_m10_half_a_position_is_none():
    facts = run([gps([fix(0, lat=None), fix(1, lon=None), fix(2, lat=91.0), fix(3, lon="x")])])
    assert facts.column("lat_deg") == facts.column("lon_deg") == [None] * 4
    assert facts.flags == [[], [], ["OUT_OF_RANGE"], ["TYPE_INVALID"]]


def test_m10_zero_goes_before_stale_and_jump():
    row = run([gps([fix(0, lat=0, lon=0, nos=0, fix=0)])]).row
    assert (row["quality_flags"], row["extras"]) == (["GPS_ZERO"], None)


@pytest.mark.parametrize("signs", [{"nos": 0}, {"fix": 0}, {"fix": 1}, {"nos": 0, "fix": 3}])
def test_m13_a_position_without_satellites_or_fix_is_stale_and_kept_in_extras(signs):
    facts = run([gps([fix(0), fix(1, 30, **signs), fix(2, 40)])])
    row = facts.telemetry[1]
    assert (row["lat_deg"], row["lon_deg"], row["quality_flags"]) == (None, None, ["GPS_STALE"])
    assert float(row["extras"]["stale_lat_deg"]) == pytest.approx(HOME[0] + 30 / METRES_PER_DEGREE)
    assert row["extras"]["stale_lon_deg"] == "127.0"
    assert facts.minute["distance_gps_m"] == pytest.approx(40)


def test_m13_unknown_satellites_and_no_position_are_not_stale():
    facts = run(
        [gps([fix(0, nos=255), fix(1, nos=None, fix=None), fix(2, lat=None, lon=None, nos=0)])]
    )
    assert facts.flags == [["SENTINEL"], [], []]


def test_m13_a_stale_position_joins_the_extras_of_its_sample():
    row = run([gps([fix(0, nos=0, odd=1)], zone=2)]).row
    assert sorted(row["extras"]) == ["odd", "stale_lat_deg", "stale_lon_deg", "zone"]


def jump_limit(mps):
    return Rules(position=Position(jump_mps=mps))


def speed_between(one, other):
    position = (np.array([v]) for v in (one["lat"], one["lon"], other["lat"], other["lon"]))
    return float(distance_m(*position)[0])


def test_m11_a_step_of_exactly_the_limit_is_no_jump():
    path = [fix(0, 0), fix(1, 70)]
    exact = speed_between(*path)
    assert exact == pytest.approx(70, abs=1e-6)
    assert run([gps(path)], rules=jump_limit(exact)).flags == [[], []]
    below = jump_limit(exact - 1e-6)
    assert run([gps(path)], rules=below).flags == [[], ["GPS_JUMP"]]


@pytest.mark.parametrize(("metres", "jump"), [(69.999, False), (70.001, True)])
@pytest.mark.parametrize("seconds", [1, 10])
def test_m11_seventy_metres_a_second_is_the_limit(metres, jump, seconds):
    facts = run([gps([fix(0, 0), fix(seconds, metres * seconds)])])
    assert facts.flags == [[], ["GPS_JUMP"] if jump else []]


def test_m11_steps_of_less_than_a_second_count_as_one_second():
    assert run([gps([fix(0, 0), fix(0.1, 69)])]).flags == [[], []]
    assert run([gps([fix(0, 0, sp=1), fix(0, 71, sp=2)])]).flags == [[], ["GPS_JUMP"]]


def test_m11_a_jump_is_kept_but_left_out_of_distance_top_speed_and_positions():
    facts = run([gps([fix(0, 0), fix(1, 20), fix(2, 9000, sp=200.0)])])
    assert facts.flags == [[], [], ["GPS_JUMP"]]
    assert facts.column("lat_deg")[2] == pytest.approx(HOME[0] + 9000 / METRES_PER_DEGREE)
    minute = facts.minute
    assert minute["distance_gps_m"] == pytest.approx(20)
    assert minute["speed_max_kmh"] == 60
    assert (minute["speed_sum_kmh"], minute["speed_n"], minute["n_flagged"]) == (320, 3, 1)
    assert minute["last_lat_deg"] == pytest.approx(HOME[0] + 20 / METRES_PER_DEGREE)
    assert (minute["overspeed_s"], minute["driving_s"]) == (1, 3)


def test_m11_the_speed_is_from_the_last_accepted_position():
    facts = run([gps([fix(0, 0), fix(1, 900), fix(2, 100), fix(3, 141)])])
    assert facts.flags == [[], ["GPS_JUMP"], [], []]
    assert facts.minute["distance_gps_m"] == pytest.approx(141)


def test_m11_the_third_consistent_candidate_is_the_new_position_without_distance():
    facts = run([gps([fix(0, 0), fix(1, 900), fix(2, 930), fix(3, 960), fix(4, 990)])])
    assert facts.flags == [[], ["GPS_JUMP"], ["GPS_JUMP"], [], []]
    assert facts.minute["distance_gps_m"] == pytest.approx(30)


def test_m11_candidates_that_jump_about_are_never_accepted():
    facts = run(
        [gps([fix(0, 0), fix(1, 900), fix(2, 930), fix(3, 9000), fix(4, 9030), fix(5, 90)])]
    )
    assert facts.flags == [[], ["GPS_JUMP"], ["GPS_JUMP"], ["GPS_JUMP"], ["GPS_JUMP"], []]
    assert facts.minute["distance_gps_m"] == pytest.approx(90)


def test_m11_a_return_to_the_accepted_position_ends_the_row_of_candidates():
    path = [fix(0, 0), fix(1, 900), fix(2, 930), fix(3, 30), fix(4, 930), fix(5, 960)]
    flags = run([gps(path)]).flags
    assert [bool(one) for one in flags] == [False, True, True, False, True, True]


def test_m11_the_first_position_of_every_upload_is_accepted_and_only_gps_uploads_have_jumps():
    facts = run([gps([fix(0, 0)], seq=1), gps([fix(1, 9000)], seq=2)])
    assert facts.flags == [[], []]
    kinematic = batch("kinematic", [fix(0, 0), fix(1, 9000)])
    assert run([kinematic]).flags == [[], []]


@pytest.mark.parametrize(
    ("metres", "speeds", "expected"),
    [
        (19.9, (0.0, 0.9), 0),
        (20.001, (0.0, 0.9), 20.001),
        (19.9, (0.0, 1.0), 19.9),
        (19.9, (1.0, 0.0), 19.9),
        (19.9, (None, 0.0), 19.9),
        (19.9, (0.0, None), 19.9),
    ],
)
def test_m12_a_short_step_between_two_parked_samples_adds_no_distance(metres, speeds, expected):
    facts = run([gps([fix(0, 0, sp=speeds[0]), fix(1, metres, sp=speeds[1])])])
    assert facts.minute["distance_gps_m"] == pytest.approx(expected)
    assert facts.flags == [[], []]


def test_m12_a_step_of_exactly_twenty_metres_counts():
    path = [fix(0, 0, sp=0), fix(1, 20, sp=0)]
    exact = speed_between(*path)
    at_limit = Rules(position=Position(jitter_m=exact))
    assert run([gps(path)], rules=at_limit).minute["distance_gps_m"] == exact
    above = Rules(position=Position(jitter_m=exact + 1e-9))
    assert run([gps(path)], rules=above).minute["distance_gps_m"] == 0


def test_m12_jitter_is_measured_between_accepted_positions():
    facts = run([gps([fix(0, 0, sp=0), fix(1, 900, sp=50), fix(2, 10, sp=0)])])
    assert facts.flags == [[], ["GPS_JUMP"], []]
    assert facts.minute["distance_gps_m"] == 0


SENTINELS = {
    "log": {
        "spd": (255, 410.383, 65535), "odo": (4294967295,), "fuel": (255,), "soc": (255,),
        "bat": (255, 65535), "bbat": (255,), "rpm": (16383.75, 65535), "ct": (215, 255),
        "cab": (215, 255), "hd": (65535,), "door": (255,), "rssi": (99, 255),
    },
    "gps": {"alt": (-777, -236.8), "sp": (255, 410.383), "hd": (65535,), "dop": (99.9, 99.99),
            "acc": (65535,), "nos": (255,)},
    "adas": {"hw": (65535,), "ttc": (65535,)},
}  # fmt: skip
NAMES = {
    "spd": "speed_kmh", "sp": "speed_kmh", "odo": "odometer_m", "fuel": "fuel_level_pct",
    "soc": "ev_soc_pct", "bat": "aux_battery_v", "bbat": "backup_battery_v", "rpm": "engine_rpm",
    "ct": "coolant_temp_c", "cab": "cabin_temp_c", "hd": "heading_deg", "door": "door_state_bits",
    "rssi": "cell_rssi_dbm", "alt": "altitude_m", "dop": "hdop", "acc": "accuracy_m",
    "nos": "satellites", "hw": "headway_m", "ttc": "ttc_s",
}  # fmt: skip


@pytest.mark.parametrize("kind", SENTINELS)
def test_m19_a_value_that_means_not_available_is_null_and_flagged(kind):
    for key, sentinels in SENTINELS[kind].items():
        for value in sentinels:
            sample = {key: value}
            message = log(**sample) if kind == "log" else batch(kind, [{"ts": NOON, **sample}])
            row = run([message]).row
            assert (row[NAMES[key]], row["quality_flags"]) == (None, ["SENTINEL"]), (key, value)


@pytest.mark.parametrize(
    ("value", "expected", "flags"),
    [
        (254.994, pytest.approx(254.994), []), (254.996, None, ["SENTINEL"]),
        (255.004, None, ["SENTINEL"]), (255.006, pytest.approx(255.006), []),
        (300, 300.0, []), (300.1, None, ["OUT_OF_RANGE"]), (0, 0.0, []),
        (-0.1, None, ["OUT_OF_RANGE"]),
    ],
)  # fmt: skip
def test_m19_a_sentinel_is_met_within_five_thousandths_and_ranges_are_inclusive(
    value, expected, flags
):
    row = run([log(spd=value)]).row
    assert (row["speed_kmh"], row["quality_flags"]) == (expected, flags)


@pytest.mark.parametrize(
    ("value", "expected", "flags"),
    [
        (40, 40.0, []), (14100, pytest.approx(14.1), ["UNIT_GUESSED"]),
        (40.5, pytest.approx(0.0405), ["UNIT_GUESSED"]), (40_000, 40.0, ["UNIT_GUESSED"]),
        (41_000, None, ["OUT_OF_RANGE", "UNIT_GUESSED"]), (255, None, ["SENTINEL"]),
        (65535, None, ["SENTINEL"]),
    ],
)  # fmt: skip
def test_m19_a_battery_above_forty_volts_was_sent_in_millivolts(value, expected, flags):
    row = run([log(bat=value)]).row
    assert row["aux_battery_v"] == expected
    assert sorted(row["quality_flags"]) == sorted(flags)


def test_m19_one_wrong_value_leaves_its_neighbours_alone():
    facts = run([gps([fix(0, sp=255, hd=361), fix(1, sp=30), fix(2, sp=301)])])
    assert facts.column("speed_kmh") == [None, 30, None]
    assert facts.flags == [["SENTINEL", "OUT_OF_RANGE"], [], ["OUT_OF_RANGE"]]
    assert facts.column("lat_deg") == [HOME[0]] * 3
