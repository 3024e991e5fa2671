"""The newest state by the rules alone, whatever keeps it."""

import pyarrow as pa
import pytest

from tests.support.vehicle_state import judged, moment, table
from tests.support.vehicle_state_cases import ALL_GROUPS, CASES, MOVED, Rounds, gps, log, setter
from transforms.facts.vehicle_state import (
    GROUPS,
    SEEN,
    Group,
    Setters,
    newer,
    newest,
    standing,
    taken_back,
    uploads,
    values,
)

LATEST = pa.scalar(moment(86_400), pa.timestamp("ms", "UTC"))
FIELDS = {
    "event_time": LATEST.type,
    "received_time": LATEST.type,
    "message_id": pa.string(),
    "sample_idx": pa.int32(),
    "revision": pa.int64(),
}
NOTHING = dict.fromkeys(FIELDS)
KEY = "vehicle_id"


def setters(rows):
    """Rows, one a vehicle, as they set a group; None for no row."""
    return Setters(
        **{
            name: pa.array([(one or NOTHING)[name] for one in rows], kind)
            for name, kind in FIELDS.items()
        }
    )


class InMemory:
    """A store that does nothing but what the rules say; `rows` is by vehicle and group."""

    def __init__(self):
        self.rows = {}

    def write(self, telemetry, rows):
        """As a sink."""
        rows = standing(rows)
        groups = [group for group in ALL_GROUPS if group.of(telemetry.columns)]
        self._take_back(rows, groups)
        found, given = newest(KEY, rows, groups), rows.to_pylist()
        for group, places in zip(groups, found.setters, strict=True):
            for place in places[places >= 0]:
                one = given[found.order[place]]
                state = self._state(one[KEY])
                if newer(setters([one]), setters([state[group.name]]), LATEST)[0]:
                    state[group.name] = one
        for number in found.order[found.starts]:
            self._state(given[number][KEY])

    def _take_back(self, rows, groups):
        known = uploads(KEY, rows, groups)
        vehicles = pa.array(list(self.rows), pa.string())
        for group in groups:
            stored = setters([state[group.name] for state in self.rows.values()])
            back = taken_back(vehicles, stored, group, known)
            for vehicle, is_back in zip(vehicles.to_pylist(), back, strict=True):
                if is_back:
                    self.rows[vehicle][group.name] = None

    def _state(self, vehicle):
        return self.rows.setdefault(vehicle, {group.name: None for group in ALL_GROUPS})

    def states(self):
        """In the form of the shared cases."""
        return {
            vehicle: {
                group.name: state[group.name] and setter(state[group.name], group)
                for group in ALL_GROUPS
            }
            for vehicle, state in self.rows.items()
        }


@pytest.mark.parametrize("case", [*CASES, *MOVED], ids=lambda case: case.name)
def test_each_case_in_any_order_and_any_cut(case):
    rounds, store = Rounds([case], 30), InMemory()
    rounds.write(store.write)
    rounds.check(store.states())


def newer_one(incoming, stored):
    return bool(newer(setters([incoming]), setters([stored]), LATEST)[0])


def test_a_state_from_the_future_gives_way_to_any_row_but_those_of_its_upload():
    ahead = log(2 * 86_400, "m", sample_idx=1)
    assert newer_one(log(0, "n"), ahead)
    assert not newer_one(ahead, ahead)
    assert not newer_one(log(86_401, "m", sample_idx=0), ahead)
    assert not newer_one(log(0, "m", revision=0), ahead)
    assert newer_one(log(0, "m", revision=2), ahead)


def test_a_row_does_not_replace_itself_nor_nothing_anything():
    one = log(0, "m")
    assert not newer_one(one, one)
    assert not newer_one(None, one)
    assert not newer_one(None, None)
    assert newer_one(one, None)


def test_a_stored_row_whose_receive_time_is_not_known_is_the_earliest_of_its_instant():
    stored = log(5, "z") | {"received_time": None}
    assert newer_one(log(5, "a"), stored)
    assert not newer_one(log(4, "a"), stored)
    assert not newer_one(stored, log(5, "a"))


def test_times_may_be_texts():
    incoming, stored = (
        Setters(*map(pa.array, (["2026-01-02"], ["b"], ["m"], [0], [1]))),
        Setters(*map(pa.array, (["2026-01-01"], ["c"], ["n"], [0], [1]))),
    )
    assert newer(incoming, stored, pa.scalar("2027")).tolist() == [True]
    assert newer(stored, incoming, pa.scalar("2027")).tolist() == [False]


def test_every_column_of_a_group_is_one_of_telemetry():
    names = set(table("log", []).column_names) | set(table("gps", []).column_names)
    assert {name for group in GROUPS for name in group.columns} <= names
    assert Group(SEEN, ("device_no",)).of(pa.schema([]))


def test_what_is_no_value_becomes_null_and_nothing_else_changes():
    column = pa.array([1.0, None, float("nan"), float("-inf")])
    assert values(column).to_pylist() == [1.0, None, None, None]
    for same in (pa.array([None], pa.float32()), pa.array(["a"]), pa.array([2.0])):
        assert values(same) is same


def test_no_rows_have_no_newest():
    found = newest(KEY, table("log", [log(0, "m", None)]), GROUPS)
    assert (len(found.order), len(found.starts), [len(one) for one in found.setters]) == (
        0,
        0,
        [0] * len(GROUPS),
    )


def test_what_uploads_set_is_by_vehicle_and_upload():
    rows = [
        gps(1, "m", speed_kmh=1.0, revision=judged()),
        gps(2, "m", sample_idx=1, speed_kmh=2.0, revision=judged()),
        gps(3, "m", sample_idx=2, revision=judged()),
        gps(4, "n", None),
    ]
    known = uploads(KEY, table("gps", rows), [GROUPS[0], GROUPS[1]]).to_pylist()
    assert known == [
        {
            "vehicle_id": "V1",
            "message_id": "m",
            "revision": judged(),
            "position": None,
            "speed": moment(2),
        },
        {
            "vehicle_id": None,
            "message_id": "n",
            "revision": 1,
            "position": None,
            "speed": None,
        },
    ]
