"""The newest of each vehicle and terminal: whatever the order, whoever knows better later."""

import tracemalloc
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.errors import BadSettings
from connectors.sinks.tables import MINUTES, TELEMETRY
from connectors.sinks.vehicle_state.columns import TERMINAL, VEHICLE
from tests.support.database import new_database
from tests.support.vehicle_state import (
    judged,
    moment,
    oracle,
    row,
    same,
    state,
    store,
    table,
    write,
)
from tests.support.vehicle_state_cases import CASES, MOVED, Rounds

pytestmark = pytest.mark.servers

TABLES = tuple(TELEMETRY.values())


@pytest.fixture(scope="module")
def shared(postgres):
    """A database and a sink on it."""
    database = new_database(postgres, tables=False)
    sink = store(database)
    sink.prepare(TABLES)
    yield database, sink
    sink.close()


@pytest.fixture
def database(shared):
    """The shared database, empty."""
    shared[0].run("TRUNCATE vehicle_state, device_state")
    return shared[0]


@pytest.fixture
def sink(database, shared):
    return shared[1]


def vehicle(database, vehicle_id="V1"):
    return state(database, VEHICLE).get(vehicle_id)


def terminal(database, device_no="0001"):
    return state(database, TERMINAL).get(device_no)


def test_a_position_leaves_what_reports_said(database, sink):
    report = row(0, odometer_m=5, ignition_on=True, locked=False, fuel_level_pct=50.0)
    position = row(10, lat_deg=37.5, lon_deg=127.0, speed_kmh=30.0, topic="message-gps")
    write(sink, "log", report)
    write(sink, "gps", position)
    found = vehicle(database)
    assert (found["odometer_m"], found["ignition_on"], found["locked"]) == (5, True, False)
    assert (found["lat_deg"], found["speed_kmh"]) == (37.5, 30.0)
    assert found["odometer_event_time"] == moment(0)
    assert found["position_event_time"] == found["seen_event_time"] == moment(10)
    same(database, [("log", [report]), ("gps", [position])])


def test_a_report_without_an_odometer_leaves_the_last_one(database, sink):
    write(sink, "log", row(0, odometer_m=5, ignition_on=True))
    write(sink, "log", row(60, ignition_on=False))
    found = vehicle(database)
    assert (found["odometer_m"], found["ignition_on"]) == (5, False)
    assert found["odometer_event_time"] == moment(0)


def test_what_a_row_says_of_a_group_is_taken_whole(database, sink):
    """Fuel of one report and charge of another would be a car that never was."""
    write(sink, "log", row(0, fuel_level_pct=50.0, ev_charging=True))
    write(sink, "log", row(60, fuel_level_pct=40.0))
    assert vehicle(database)["ev_charging"] is None


def test_an_older_row_changes_nothing(database, sink):
    write(sink, "log", row(60, odometer_m=7, received_s=60))
    before = database.run("SELECT updated_at FROM vehicle_state")
    write(sink, "log", row(0, odometer_m=5, received_s=30))
    assert vehicle(database)["odometer_m"] == 7
    assert database.run("SELECT updated_at FROM vehicle_state") == before


def test_both_clocks_and_the_place_are_kept(database, sink):
    write(sink, "log", row(0, received_s=90, odometer_m=5, partition=3, offset=12, message_id="m"))
    found = vehicle(database)
    assert found["odometer_event_time"] == moment(0)
    assert found["odometer_received_time"] == found["last_received_time"] == moment(90)
    assert found["odometer_row"] == "(message-log,3,12,0,1,m)"


def test_an_upload_that_waited_makes_its_vehicle_seen_but_not_older(database, sink):
    write(sink, "log", row(60, odometer_m=7))
    write(sink, "log", row(0, received_s=120, odometer_m=5))
    found = vehicle(database)
    assert (found["odometer_m"], found["seen_event_time"]) == (7, moment(60))
    assert found["last_received_time"] == moment(120)


def test_a_position_that_jumped_is_no_position(database, sink):
    write(sink, "gps", row(0, lat_deg=37.5, lon_deg=127.0))
    write(sink, "gps", row(1, lat_deg=1.0, lon_deg=1.0, quality_flags=["TZ_SUSPECT", "GPS_JUMP"]))
    assert vehicle(database)["lat_deg"] == 37.5


def test_an_unbound_upload_is_its_terminals_alone(database, sink):
    write(sink, "log", row(0, None, odometer_m=5))
    assert state(database, VEHICLE) == {}
    assert (terminal(database)["odometer_m"], terminal(database)["vehicle_id"]) == (5, None)


def test_a_terminal_that_changed_cars_leaves_the_old_cars_state(database, sink):
    moves = [
        row(0, "V1", "0001", odometer_m=10, lat_deg=37.0, lon_deg=127.0),
        row(0, "V2", "0002", odometer_m=20, lat_deg=38.0, lon_deg=127.0),
        row(60, None, "0001", odometer_m=11),
        row(120, "V2", "0001", odometer_m=21),
        row(121, "V1", "0002", odometer_m=12),
    ]
    for one in moves:
        write(sink, "log", one)
    assert (vehicle(database)["odometer_m"], vehicle(database)["device_no"]) == (12, "0002")
    assert (vehicle(database)["lat_deg"], vehicle(database, "V2")["lat_deg"]) == (37.0, 38.0)
    assert terminal(database)["vehicle_id"] == "V2"
    same(database, [("log", moves)])


def test_each_shared_case_in_any_order_and_any_cut(database, sink):
    rounds = Rounds([*CASES, *MOVED], 6)
    rounds.write(sink.write)
    assert set(by_rule(database)) > {"0.0 V1"}
    rounds.check(by_rule(database))


def by_rule(database):
    """What the database says of vehicles, in the form of the shared cases."""
    made = {}
    for vehicle_id, found in state(database, VEHICLE).items():
        made[vehicle_id] = {}
        for group in VEHICLE.all_groups:
            made[vehicle_id][group.name] = None
            if found[group.event_time] is not None:
                *_, sample, revision, message = found[group.row].strip("()").split(",")
                times = (found[group.event_time], found[group.received_time])
                key = (message.strip('"'), int(sample), int(revision))
                values = {name: found[name] for name in group.columns}
                made[vehicle_id][group.name] = (*times, *key, values)
    return made


def test_an_own_row_of_the_future_is_not_written_again(database, sink):
    ahead = row(0, odometer_m=5, message_id="m", revision=judged()) | {
        "event_time": datetime(2099, 1, 1, tzinfo=UTC)
    }
    write(sink, "log", ahead)
    before = database.run("SELECT updated_at FROM vehicle_state")
    write(sink, "log", ahead)
    write(sink, "log", ahead | {"revision": 1, "odometer_m": 4})
    assert vehicle(database)["odometer_m"] == 5
    assert database.run("SELECT updated_at FROM vehicle_state") == before


TIMES = st.integers(0, 6)
VALUES = {
    "log": {
        "odometer_m": st.none() | st.integers(0, 9),
        "ignition_on": st.none() | st.booleans(),
        "locked": st.none() | st.booleans(),
        "ev_soc_pct": st.none() | st.integers(0, 9).map(float),
        "lat_deg": st.none() | st.integers(-9, 9).map(float),
    },
    "gps": {
        "lat_deg": st.none() | st.integers(-9, 9).map(float),
        "speed_kmh": st.none() | st.integers(0, 9).map(float),
    },
    "boot": {"aux_battery_v": st.none() | st.integers(0, 9).map(float)},
}


@st.composite
def uploads(draw):
    """Rows of several tables, by upload; each upload is one of its kind, with up to three samples,
    and may have copies received later."""
    made = []
    for number in range(draw(st.integers(1, 12))):
        name = draw(st.sampled_from(sorted(VALUES)))
        device = draw(st.sampled_from(["0001", "0002"]))
        event, received = draw(TIMES), draw(TIMES)
        samples = [
            row(
                event + index,
                draw(st.sampled_from(["V1", "V2", None])),
                device,
                received_s=received,
                message_id=f"m{number}",
                sample_idx=index,
                offset=number,
                topic=f"message-{name}",
                quality_flags=draw(st.sampled_from([[], [], ["GPS_JUMP"]])),
                lon_deg=127.0,
                **draw(st.fixed_dictionaries(VALUES[name])),
            )
            for index in range(draw(st.integers(1, 3)) if name == "gps" else 1)
        ]
        made += [(name, one) for one in samples]
    return made


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=uploads(), data=st.data())
def test_any_order_and_any_cut_comes_to_the_same(database, sink, rows, data):
    database.run("TRUNCATE vehicle_state, device_state")
    rest = data.draw(st.permutations(rows + data.draw(st.lists(st.sampled_from(rows), max_size=3))))
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        part, rest = rest[:size], rest[size:]
        for name in VALUES:
            write(sink, name, *(one for table_name, one in part if table_name == name))
    same(database, [(name, [one]) for name, one in rows])


def test_a_row_of_the_same_upload_that_is_known_better_replaces_it_though_it_is_older(
    database, sink
):
    write(sink, "log", row(3600, odometer_m=5, message_id="m"))
    write(sink, "log", row(60, odometer_m=5, message_id="m", revision=judged()))
    assert vehicle(database)["odometer_event_time"] == moment(60)
    assert terminal(database)["odometer_event_time"] == moment(60)


def test_what_was_known_before_does_not_come_back(database, sink):
    write(sink, "log", row(60, odometer_m=5, message_id="m", revision=judged()))
    write(sink, "log", row(3600, odometer_m=5, message_id="m"))
    assert vehicle(database)["odometer_event_time"] == moment(60)


def test_another_upload_of_the_same_batch_takes_the_place_of_one_that_moved_back(database, sink):
    write(sink, "log", row(3600, odometer_m=5, message_id="m"))
    write(
        sink,
        "log",
        row(60, odometer_m=5, message_id="m", revision=judged()),
        row(120, odometer_m=6, message_id="n"),
    )
    assert vehicle(database)["odometer_m"] == terminal(database)["odometer_m"] == 6


def test_an_upload_that_moved_to_another_vehicle_is_taken_back_from_the_first(database, sink):
    write(sink, "log", row(3600, "V2", odometer_m=5, locked=True, message_id="m"))
    write(sink, "log", row(60, "V1", odometer_m=5, message_id="m", revision=judged()))
    assert vehicle(database)["odometer_m"] == 5
    taken = vehicle(database, "V2")
    for name in ("odometer_m", "locked", "odometer_row", "seen_row", "seen_event_time"):
        assert taken[name] is None
    assert taken["last_received_time"] == moment(3600)
    assert terminal(database)["vehicle_id"] == "V1"


def test_all_uploads_that_moved_are_taken_back_whatever_their_tables(database, sink):
    first = {"lat_deg": 37.5, "lon_deg": 127.0, "odometer_m": 5}
    write(sink, "log", row(3600, "V2", message_id="m", **first))
    write(sink, "gps", row(3660, "V2", message_id="n", **first))
    write(sink, "gps", row(60, "V1", message_id="n", revision=judged(), **first))
    write(sink, "log", row(0, "V1", message_id="m", revision=judged(), **first))
    taken = vehicle(database, "V2")
    assert [taken[name] for name in ("lat_deg", "odometer_m", "seen_row")] == [None] * 3
    assert vehicle(database)["odometer_m"] == 5


def test_an_upload_that_turned_out_unbound_is_taken_back(database, sink):
    write(sink, "log", row(3600, odometer_m=5, message_id="m"))
    write(sink, "log", row(60, None, odometer_m=5, message_id="m", revision=judged()))
    assert vehicle(database)["odometer_m"] is None
    assert terminal(database)["odometer_event_time"] == moment(60)


def test_of_two_revisions_in_one_batch_only_the_higher_is_written(database, sink):
    rows = [
        row(3600, odometer_m=5, message_id="m"),
        row(60, odometer_m=5, message_id="m", revision=judged()),
    ]
    write(sink, "log", *rows)
    same(database, [("log", rows)])


def test_a_row_that_is_gone_says_nothing(database, sink):
    """The row that stands for its upload says it: at its place of now, with the same id."""
    write(sink, "log", row(60, odometer_m=5, message_id="m"))
    gone = row(3600, None, "", message_id="m", topic="", revision=judged(), gone=True)
    assert write(sink, "log", gone).rows == 1
    assert vehicle(database)["odometer_m"] == 5
    assert terminal(database, "") is None


@st.composite
def corrected(draw):
    """Uploads of one terminal under their own verdict and under a better one, in an order in which
    the better one comes later."""
    pairs = []
    for number in range(draw(st.integers(1, 6))):
        received = draw(TIMES)
        made = [
            row(
                draw(TIMES),
                draw(st.sampled_from(["V1", "V2", None])),
                received_s=received,
                message_id=f"m{number}",
                offset=number,
                odometer_m=number,
                locked=draw(st.none() | st.booleans()),
                revision=revision,
            )
            for revision in (1, judged())
        ]
        pairs.append(made if draw(st.booleans()) else made[:1])
    slots = draw(st.permutations([index for index, pair in enumerate(pairs) for _ in pair]))
    left = [iter(pair) for pair in pairs]
    return [next(left[index]) for index in slots]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=corrected(), data=st.data())
def test_nothing_stands_that_is_known_better_and_the_next_upload_heals_what_is_missing(
    database, sink, rows, data
):
    database.run("TRUNCATE vehicle_state, device_state")
    rest = rows
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        write(sink, "log", *rest[:size])
        rest = rest[size:]
    for kind in (VEHICLE, TERMINAL):
        best = oracle([("log", rows)], kind)
        standing = _places(rows)
        for key, found in state(database, kind).items():
            for group in kind.all_groups:
                if found[group.row] is not None:
                    assert found[group.row] in standing[kind.key, key]
                    assert found[group.event_time] <= best[key][group.event_time]
    later = [row(100, one, odometer_m=9, locked=True) for one in ("V1", "V2")]
    write(sink, "log", *later)
    for vehicle_id in ("V1", "V2"):
        found = vehicle(database, vehicle_id)
        assert (found["odometer_m"], found["locked"]) == (9, True)


def _places(rows):
    """Where the rows lie that stand for their uploads, by column and vehicle or terminal."""
    best = {one["message_id"]: one["revision"] for one in sorted(rows, key=lambda r: r["revision"])}
    found = {}
    for one in rows:
        if one["revision"] == best[one["message_id"]]:
            names = ("topic", "partition", "offset", "sample_idx", "revision", "message_id")
            text = "(" + ",".join(str(one[name]) for name in names) + ")"
            for column in ("vehicle_id", "device_no"):
                found.setdefault((column, one[column]), set()).add(text)
    return found


@pytest.mark.parametrize("year", [2099, 9999])
def test_a_state_from_the_future_gives_way_to_what_comes_next(database, sink, year):
    ahead = datetime(year, 1, 1, tzinfo=UTC)
    write(sink, "log", row(0, odometer_m=5) | {"event_time": ahead, "received_time": ahead})
    assert vehicle(database)["odometer_event_time"] == ahead
    write(sink, "log", row(60, odometer_m=6))
    found = vehicle(database)
    assert (found["odometer_m"], found["odometer_event_time"]) == (6, moment(60))
    assert found["last_received_time"] == moment(60)


def test_a_state_a_little_ahead_is_believed(database, sink):
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5)
    write(sink, "log", row(0, odometer_m=5) | {"event_time": soon, "received_time": soon})
    write(sink, "log", row(60, odometer_m=6))
    assert vehicle(database)["odometer_m"] == 5


BAD = {
    "a longitude off the earth": {"lat_deg": 37.5, "lon_deg": 181.0},
    "a speed no car has": {"speed_kmh": 301.0},
    "a NUL in a text": {"device_no": "00\x0001"},
    "no terminal": {"device_no": ""},
    "a vehicle no index has room for": {"vehicle_id": "".join(map(chr, range(33, 9000)))},
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_value_is_refused_alone_with_its_place(database, sink, what):
    good = [row(second, odometer_m=second) for second in range(20)]
    bad = row(30, odometer_m=99, offset=77, message_id="bad") | BAD[what]
    told = write(sink, "log", *good[:7], bad, *good[7:])
    (letter,) = told.refused.to_pylist()
    assert told.rows == 20
    assert (letter["source_topic"], letter["source_offset"]) == ("message-log", 77)
    assert (letter["stage"], letter["error_type"]) == ("SINK", "REFUSED")
    assert vehicle(database)["odometer_m"] == 19
    assert vehicle(database)["lat_deg"] is None


def test_a_reason_tells_no_value(database, sink):
    told = write(sink, "log", row(0, lat_deg=91.125, lon_deg=127.0))
    assert "91.125" not in told.refused.to_pylist()[0]["error_message"]
    assert "lat_deg" in told.refused.to_pylist()[0]["error_message"]


def test_a_bad_row_that_is_not_the_newest_disturbs_nobody(database, sink):
    told = write(sink, "gps", row(0, lat_deg=95.0, lon_deg=1.0), row(1, lat_deg=1.0, lon_deg=1.0))
    assert told.refused.num_rows == 0
    assert vehicle(database)["lat_deg"] == 1.0


def test_many_bad_rows_leave_the_good_ones(database, sink):
    rows = [
        row(second, f"V{second % 7}", f"{second % 7:04d}", lon_deg=0.0, lat_deg=float(second % 180))
        for second in range(350)
    ]
    told = write(sink, "gps", *rows)
    good = [one for one in rows if one["lat_deg"] <= 90]
    assert 0 < told.refused.num_rows <= 350 - len(good)
    assert told.rows + told.refused.num_rows == 350
    same(database, [("gps", good)])


def test_statements_hold_at_most_a_batch(database, shared):
    small = store(shared[0], batch_size=3)
    rows = [row(second, f"V{second}", f"{second:04d}", odometer_m=1) for second in range(10)]
    write(small, "log", *rows)
    small.close()
    same(database, [("log", rows)])


def test_no_rows_are_no_work(database, sink):
    told = write(sink, "log")
    assert (told.rows, told.size, told.refused.num_rows) == (0, 0, 0)


def test_columns_may_come_as_dictionaries_and_in_chunks(database, sink):
    rows = [row(second, f"V{second % 3}", odometer_m=second) for second in range(12)]
    parts = [table("log", rows[at : at + 5]) for at in (0, 5, 10)]
    encoded = []
    for part in parts:
        for name in ("device_no", "vehicle_id", "message_id", "topic"):
            at = part.schema.get_field_index(name)
            part = part.set_column(at, name, part[name].dictionary_encode())
        encoded.append(part)
    sink.write(TELEMETRY["log"], pa.concat_tables(encoded))
    same(database, [("log", rows)])


def test_what_is_no_telemetry_is_refused_before_anything_runs(shared):
    with pytest.raises(BadSettings, match="vehicle_minutes"):
        store(shared[0]).prepare([*TABLES, MINUTES])


def test_preparing_again_keeps_what_is_there(database, sink):
    write(sink, "log", row(0, odometer_m=5))
    sink.prepare(TABLES)
    assert vehicle(database)["odometer_m"] == 5


def test_a_row_is_changed_in_place(database, sink):
    """Without an entry in an index for each change, or the indexes of a busy table only grow."""
    write(sink, "log", row(0, odometer_m=1))
    database.run("SELECT pg_stat_reset()")
    for second in range(50):
        write(sink, "log", row(second, odometer_m=second))
    ((changed, in_place),) = database.run(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'vehicle_state'"
    )
    assert in_place == changed > 0


def test_writing_for_long_takes_no_more_memory(database, sink):
    count = 3_000
    numbers = np.arange(count)
    rows = table("log", [row(0, odometer_m=1)] * count)
    at = rows.schema.get_field_index("vehicle_id")

    def write_once(turn):
        names = pa.array([f"V{turn}-{number}" for number in numbers % 100])
        sink.write(TELEMETRY["log"], rows.set_column(at, rows.schema.field(at), names))

    write_once(0)
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    for turn in range(1, 6):
        write_once(turn)
    before = tracemalloc.get_traced_memory()[0]
    for turn in range(6, 26):
        write_once(turn)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 200_000
    assert pa.total_allocated_bytes() - arrow < 200_000
