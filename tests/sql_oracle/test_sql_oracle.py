"""The oracle itself, on uploads small enough to work out by hand, and the comparison it offers."""

import gzip
import json

import duckdb
import pytest

from tests.sql_oracle.capmetrics import compare, oracle

pytestmark = pytest.mark.days

NOON = 1_700_000_040_000
STEP_DEG, STEP_M = 0.0005, 55.6


def upload(terminal, seq, samples, received="2023-11-14T22:15:00GMT"):
    return {
        "device_no": terminal,
        "type": "gps",
        "fw": "STS-2.4.1",
        "boot": 1,
        "seq": seq,
        "timestamp": received,
        "data": samples,
    }


def north(second, steps, **more):
    return {
        "ts": NOON + second * 1000,
        "lat": 37.5 + steps * STEP_DEG,
        "lon": 127.0,
        "sp": 60.0,
        "fix": 3,
        **more,
    }


@pytest.fixture
def asked(tmp_path):
    """A function: uploads and bindings to their oracle."""

    def ask(uploads, bindings="0001,CAR,2020-01-01T00:00:00Z,\n"):
        path = tmp_path / "topics/message-gps/2023/11/15/07/message-gps+0+0000000000.json.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(json.dumps(u) + "\n" for u in uploads).encode()))
        table = tmp_path / "device_binding.csv"
        table.write_text("device_no,vehicle_id,valid_from,valid_to\n" + bindings)
        return oracle(tmp_path, table)

    return ask


def test_an_upload_out_of_order_is_driven_in_order(asked):
    facts = asked([upload("0001", 1, [north(2, 2), north(0, 0), north(1, 1), north(1, 1)])])
    [minute] = facts.minutes.to_pylist()
    assert minute["distance_gps_m"] == pytest.approx(2 * STEP_M, rel=1e-3)
    assert (minute["n_samples"], minute["driving_s"], minute["speed_sum_kmh"]) == (3, 3, 180.0)
    assert facts.totals()["duplicate_samples"] == 1


def test_an_upload_sent_again_counts_once(asked):
    facts = asked([upload("0001", 1, [north(0, 0)]), upload("0001", 1, [north(0, 0)])])
    assert {k: v for k, v in facts.totals().items() if v} == {
        "in": 2,
        "good": 1,
        "duplicate": 1,
        "samples": 1,
    }
    assert facts.telemetry["line"].to_pylist() == [0]


def test_two_jumps_stay_out_and_the_third_consistent_one_is_the_new_place(asked):
    path = [north(0, 0), north(1, 1), north(2, 900), north(3, 901), north(4, 902), north(5, 903)]
    facts = asked([upload("0001", 1, path)])
    flags = [row["quality_flags"] for row in facts.telemetry.sort_by("sample_idx").to_pylist()]
    assert flags == [[], [], ["GPS_JUMP"], ["GPS_JUMP"], [], []]
    assert facts.minutes["distance_gps_m"][0].as_py() == pytest.approx(2 * STEP_M, rel=1e-3)


def test_a_jump_and_back_costs_nothing(asked):
    facts = asked([upload("0001", 1, [north(0, 0), north(1, 900, sp=200.0), north(2, 1)])])
    [minute] = facts.minutes.to_pylist()
    assert minute["distance_gps_m"] == pytest.approx(STEP_M, rel=1e-3)
    assert (minute["speed_max_kmh"], minute["speed_sum_kmh"], minute["n_flagged"]) == (60, 320, 1)


def test_zero_sentinel_and_range_are_flagged(asked):
    facts = asked(
        [
            upload(
                "0001",
                1,
                [
                    north(0, 0, lat=0.0, lon=0.0),
                    north(1, 1, sp=255),
                    north(2, 2, sp=301),
                    north(3, 3, nos=0),
                ],
            )
        ]
    )
    assert {flag: n for flag, n in facts.flagged().items() if n} == {
        "GPS_ZERO": 1,
        "SENTINEL": 1,
        "OUT_OF_RANGE": 1,
        "GPS_STALE": 1,
    }
    assert facts.minutes["speed_n"].to_pylist() == [2]


def test_a_swap_splits_an_upload_and_its_instant_belongs_to_the_new_car(asked):
    swap = "2023-11-14T22:14:01Z"
    facts = asked(
        [upload("0001", 1, [north(0, 0), north(1, 1), north(2, 2)])],
        f"0001,OLD,2020-01-01T00:00:00Z,{swap}\n0001,NEW,{swap},\n",
    )
    found = {
        m["vehicle_id"]: (m["n_samples"], round(m["distance_gps_m"]))
        for m in facts.minutes.to_pylist()
    }
    assert found == {"OLD": (1, 0), "NEW": (2, 56)}


def test_unbound_and_ambiguous_samples_make_no_minutes(asked):
    both = "0002,A,2020-01-01T00:00:00Z,\n0002,B,2021-01-01T00:00:00Z,\n"
    facts = asked([upload("0001", 1, [north(0, 0)]), upload("0002", 1, [north(0, 0)])], both)
    assert sorted(facts.telemetry["binding_status"].to_pylist()) == ["AMBIGUOUS", "UNBOUND"]
    assert facts.minutes.num_rows == 0


def test_three_clocks_equally_ahead_are_set_back(asked):
    ahead = [
        upload("0001", n, [north(600 + n, 0), north(601 + n, 1)], f"2023-11-14T22:14:0{n}GMT")
        for n in (1, 2, 3)
    ]
    facts = asked(ahead)
    assert set(facts.telemetry["time_source"].to_pylist()) == {"DEVICE_CORRECTED"}
    assert facts.telemetry["event_ms"].to_pylist()[0] in range(NOON, NOON + 10_000)
    assert set(asked(ahead[:2]).telemetry["time_source"].to_pylist()) == {"RECEIVED_FALLBACK"}


def test_what_the_oracle_does_not_cover_is_refused(asked):
    with pytest.raises(duckdb.Error, match="outside this oracle"):
        asked([upload("0001", 1, [])])
    with pytest.raises(duckdb.Error, match="outside this oracle"):
        asked([upload("0001", 1, [{**north(0, 0), "ts": 0}])])


LAKE_TABLES = {
    "telemetry_gps": """select * exclude (event_ms, device_ms),
        make_timestamptz(event_ms * 1000) as event_time,
        make_timestamptz(device_ms * 1000) as device_time from telemetry""",
    "vehicle_minutes": """select * exclude (minute_ms, first_ms, last_ms), 0 as revision,
        make_timestamptz(minute_ms * 1000) as minute,
        make_timestamptz(first_ms * 1000) as first_time,
        make_timestamptz(last_ms * 1000) as last_time from minutes""",
}


def write_lake(lake, facts):
    """The oracle's own answer in the form of a lake."""
    with duckdb.connect() as con:
        con.register("telemetry", facts.telemetry)
        con.register("minutes", facts.minutes)
        for table, query in LAKE_TABLES.items():
            (lake / table).mkdir(parents=True)
            con.sql(query).write_parquet(str(lake / table / "x.parquet"))


def test_the_comparison_accepts_the_same_facts_and_names_what_differs(asked, tmp_path):
    facts = asked([upload("0001", 1, [north(0, 0), north(1, 1), north(2, 2)])])
    ledger = {
        "totals": facts.totals(),
        "by": [{"topic": "message-gps", "partition": 0, "hour": "2023111507", **facts.totals()}],
    }
    write_lake(tmp_path / "lake", facts)
    compare(tmp_path / "lake", facts, ledger)
    other = asked([upload("0001", 1, [north(0, 0), north(1, 1.01), north(2, 2, sp=61)])])
    with pytest.raises(AssertionError) as error:
        compare(tmp_path / "lake", other, {**ledger, "totals": {**facts.totals(), "good": 7}})
    text = str(error.value)
    assert "telemetry_gps: 2 rows differ" in text and "lat_deg: expected 37.500505" in text
    assert "speed_sum_kmh: expected 181.0, found 180.0" in text
    assert "ledger ('totals',)" in text and "distance_gps_m" not in text
