"""What an upload adds to a vehicle's minute."""

import pytest

from tests.support.uploads import HOME, MINUTE, NOON, SECOND, batch, boot, fix, gps, log, run

CALIBRATIONS = [(None, 1), (True, 1), (False, 0)]


def test_distance_is_credited_to_the_minute_of_the_later_position():
    facts = run([gps([fix(58, 0), fix(59, 20), fix(60, 50), fix(61, 60)])])
    assert [round(m["distance_gps_m"], 6) for m in facts.minutes] == [20, 40]
    assert [m["minute"] for m in facts.minutes] == [NOON, NOON + MINUTE]


def test_distance_between_two_uploads_is_nobodys():
    facts = run([gps([fix(0, 0), fix(1, 20)], seq=1), gps([fix(2, 40), fix(3, 60)], seq=2)])
    assert facts.minute["distance_gps_m"] == pytest.approx(40)


def test_distance_spans_samples_without_a_position():
    facts = run([gps([fix(0, 0), {"ts": NOON + SECOND, "sp": 60.0}, fix(2, 40)])])
    assert facts.minute["distance_gps_m"] == pytest.approx(40)


def test_driving_and_overspeed_are_seconds_of_gps_samples():
    speeds = [4.9, 5, 110, 110.1, None]
    facts = run([gps([fix(n, sp=speed) for n, speed in enumerate(speeds)])])
    minute = facts.minute
    assert (minute["driving_s"], minute["overspeed_s"]) == (3, 1)
    assert (minute["speed_n"], minute["speed_min_kmh"]) == (4, pytest.approx(4.9))
    assert minute["speed_max_kmh"] == pytest.approx(110.1)
    assert minute["speed_sum_kmh"] == pytest.approx(4.9 + 5 + 110 + 110.1, rel=1e-6)
    assert minute["speed_sumsq"] == pytest.approx(4.9**2 + 5**2 + 110**2 + 110.1**2, rel=1e-6)


def test_speeds_of_all_types_count_but_only_gps_drives():
    facts = run([log(spd=80), batch("kinematic", [fix(0, sp=90)]), batch("adas", [fix(0, sp=120)])])
    minute = facts.minute
    assert (minute["speed_n"], minute["speed_max_kmh"]) == (3, 120)
    assert (minute["driving_s"], minute["overspeed_s"], minute["distance_gps_m"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("report", "on", "idle"),
    [
        ({"ign": True, "spd": 0.9}, 60, 60),
        ({"ign": True, "spd": 1}, 60, 0),
        ({"ign": True}, 60, 0),
        ({"ign": False, "spd": 0}, 0, 0),
        ({"spd": 0}, 0, 0),
    ],
)
def test_m25_a_log_stands_for_sixty_seconds_of_ignition_or_idling(report, on, idle):
    minute = run([log(**report)]).minute
    assert (minute["ignition_on_s"], minute["idle_s"]) == (on, idle)


EVENTS = {
    "HARSH_BRAKE": "harsh_brake_n", "HARSH_ACCEL": "harsh_accel_n",
    "HARSH_TURN_LEFT": "harsh_turn_n", "HARSH_TURN_RIGHT": "harsh_turn_n",
}  # fmt: skip


@pytest.mark.parametrize(("calibrated", "counts"), CALIBRATIONS)
def test_kinematic_events_count_unless_the_axes_are_not_calibrated(calibrated, counts):
    samples = [
        fix(n, ev=event, cal=calibrated) for n, event in enumerate([*EVENTS, "NONE", "BUMP"])
    ]
    minute = run([batch("kinematic", samples)]).minute
    assert minute["harsh_brake_n"] == minute["harsh_accel_n"] == counts
    assert (minute["harsh_turn_n"], minute["n_samples"]) == (2 * counts, 6)


def test_adas_warnings_other_than_none_count():
    samples = [fix(n, warn=warning) for n, warning in enumerate(["NONE", "FCW", None, "LDW"])]
    assert run([batch("adas", samples)]).minute["adas_n"] == 2


def test_first_and_last_position_are_of_gps_and_log_and_never_a_jump():
    facts = run([
        log(seq=1, ts=NOON + 30 * SECOND, lat=37.6, lon=127.6),
        gps([fix(10, 0), fix(11, 9000), fix(12, 20)], seq=2),
        batch("kinematic", [fix(1, 700), fix(59, 700)], seq=3),
    ])  # fmt: skip
    minute = facts.minute
    assert (minute["first_lat_deg"], minute["first_lon_deg"]) == HOME
    assert (minute["last_lat_deg"], minute["last_lon_deg"]) == (37.6, 127.6)
    assert minute["first_time"] == NOON + SECOND
    assert minute["last_time"] == NOON + 59 * SECOND


def test_odometer_battery_fuel_and_charge_are_those_read_first_or_last():
    reports = [
        log(seq=1, ts=NOON, odo=100, bat=13.0, fuel=50.0, soc=80.0),
        log(seq=2, ts=NOON + 20 * SECOND, odo=None, bat=11.0, fuel=40.0),
        log(seq=3, ts=NOON + 40 * SECOND, odo=130),
        boot(seq=4, ts=NOON + 30 * SECOND, bat=12.0),
    ]
    minute = run(list(reversed(reports))).minute
    assert (minute["odo_first_m"], minute["odo_last_m"]) == (100, 130)
    assert (minute["aux_battery_min_v"], minute["aux_battery_last_v"]) == (11, 12)
    assert (minute["fuel_last_pct"], minute["soc_last_pct"]) == (40, 80)


def test_equal_times_are_settled_by_message_id():
    both = [log(seq=n, odo=100 + n, bat=10.0 + n) for n in (1, 2)]
    facts = run(both)
    order = sorted(facts.telemetry, key=lambda row: row["message_id"])
    assert facts.minute["odo_first_m"] == order[0]["odometer_m"]
    assert facts.minute["odo_last_m"] == order[1]["odometer_m"]


def test_two_terminals_in_one_vehicle_share_its_minute():
    bindings = [("0001", "A", 0), ("0002", "A", 0)]
    facts = run([log(seq=1, device_no="0002"), log(seq=1), log(seq=2, ts=NOON + 1)], bindings)
    minute = facts.minute
    assert (minute["device_nos"], minute["n_uploads"]) == (["0001", "0002"], 3)


def test_an_upload_over_three_minutes_counts_in_each():
    facts = run([gps([fix(0), fix(60, 20), fix(120, 40), fix(121, 50)])])
    assert [(m["n_uploads"], m["n_samples"]) for m in facts.minutes] == [(1, 1), (1, 1), (1, 2)]
    assert [m["revision"] for m in facts.minutes] == [0, 0, 0]


def test_n_flagged_counts_samples_with_any_flag():
    minute = run([gps([fix(0, sp=255, hd=400), fix(1), fix(2, x=1)])]).minute
    assert (minute["n_flagged"], minute["n_samples"]) == (2, 3)
