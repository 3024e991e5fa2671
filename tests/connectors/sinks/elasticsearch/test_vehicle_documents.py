"""The state of a vehicle is a function of the set of its rows."""

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.sinks.elasticsearch.vehicle_documents import GROUPS, documents, merged, stored
from connectors.sinks.elasticsearch.vehicle_documents import newest as newest_standing
from tests.connectors.sinks.elasticsearch.rows import GPS, LOG, at, row, table_of
from transforms.facts.vehicle_state import standing

LATEST = "2026-03-10T13:00:00.000Z"
LOGS = st.builds(
    dict,
    message_id=st.sampled_from("abcd"),
    revision=st.integers(1, 3),
    gone=st.booleans(),
    vehicle_id=st.sampled_from(["V-1", "V-2", None]),
    speed_kmh=st.sampled_from([None, 1.0, 2.0]),
    ignition_on=st.sampled_from([None, True, False]),
    locked=st.sampled_from([None, True]),
    lat_deg=st.sampled_from([None, 37.0, 38.0]),
)


def of(state):
    """States as documents by vehicle, without nulls."""
    return {
        one["vehicle_id"]: {name: value for name, value in one.items() if value is not None}
        for one in documents(state).to_dicts()
    }


def newest(table, *rows):
    """The newest of these rows."""
    return newest_standing(standing(table_of(table, rows)))


def after(*writes):
    """Documents after these writes, each a list of rows, one after another."""
    made = {}
    for rows in writes:
        known = stored(list(made.values()), {})
        made |= of(merged(known, newest(LOG, *(row(LOG, **one) for one in rows)), LATEST))
    return made


def keyed(rows):
    """One row an upload."""
    return list({one["message_id"]: one for one in rows}.values())


def timed(rows):
    """The rows, each at the time of its key: a and c happened at once, and b and d."""
    return [{**one, "seconds": "ac bd".index(one["message_id"]) // 3} for one in rows]


@given(rows=st.lists(LOGS, max_size=8).map(timed).map(keyed), data=st.data())
@settings(max_examples=25, deadline=None)
def test_it_does_not_matter_how_rows_are_ordered_grouped_or_repeated(rows, data):
    order = data.draw(st.permutations(rows + rows[: data.draw(st.integers(0, len(rows)))]))
    cut = data.draw(st.integers(0, len(order)))
    assert after(rows) == after(order[:cut], order[cut:]) == after(*([one] for one in order))


def test_each_group_is_that_of_the_newest_row_that_has_it():
    rows = [
        row(LOG, "a", seconds=1, ignition_on=True, speed_kmh=10.0, odometer_m=5),
        row(LOG, "b", seconds=3, speed_kmh=30.0, lat_deg=None),
        row(LOG, "c", seconds=2, speed_kmh=20.0, locked=True),
    ]
    state = of(newest(LOG, *rows))["V-1"]
    assert (state["speed_kmh"], state["speed_row"]) == (30.0, "b-0")
    assert (state["locked"], state["lock_time"]) == (True, "2026-03-10T12:00:02.000Z")
    assert (state["ignition_on"], state["ignition_row"]) == (True, "a-0")
    assert (state["location"], state["position_row"]) == ({"lat": 37.5, "lon": 127.0}, "c-0")
    assert (state["odometer_m"], state["seen_time"]) == (5, "2026-03-10T12:00:03.000Z")


def test_of_one_instant_the_later_received_counts_then_the_higher_key():
    rows = [
        row(LOG, "a", received_time=at(1), speed_kmh=1.0),
        row(LOG, "b", revision=2, speed_kmh=2.0),
        row(LOG, "c", revision=1, speed_kmh=3.0),
    ]
    assert of(newest(LOG, *rows))["V-1"]["speed_row"] == "a-0"
    assert of(newest(LOG, *rows[1:]))["V-1"]["speed_row"] == "c-0"


def test_a_table_says_nothing_of_groups_it_has_no_columns_of():
    state = of(newest(GPS, row(GPS, "a", speed_kmh=4.0)))["V-1"]
    known = {group.name for group in GROUPS if f"{group.name}_time" in state}
    assert known == {"position", "speed", "seen"}


def test_rows_of_no_vehicle_and_rows_that_are_gone_say_nothing():
    rows = [row(LOG, "a", vehicle_id=None), row(LOG, "b", gone=True)]
    assert newest(LOG, *rows).height == 0


def test_what_changes_nothing_is_not_written():
    first = newest(LOG, row(LOG, "a", seconds=5))
    known = stored(list(of(first).values()), {})
    assert merged(known, first, LATEST).height == 0
    earlier = newest(LOG, row(LOG, "b", seconds=4))
    assert merged(known, earlier, LATEST).height == 0
    later = merged(known, newest(LOG, row(LOG, "c", seconds=6)), LATEST)
    assert later["seen_time"].to_list() == [f"{at(6):%Y-%m-%dT%H:%M:%S}.000Z"]


def test_a_row_that_happened_earlier_than_it_seemed_gives_way():
    seemed = row(LOG, "a", seconds=3600, revision=1, speed_kmh=1.0)
    judged = row(LOG, "a", seconds=-60, revision=2, speed_kmh=1.0)
    now = row(LOG, "b", seconds=0, speed_kmh=2.0)
    for writes in ([seemed], [judged], [now]), ([seemed, judged], [now]), ([seemed, judged, now],):
        document = after(*([plain(one) for one in rows] for rows in writes))["V-1"]
        assert (document["speed_kmh"], document["speed_row"]) == (2.0, "b-0")


def test_a_state_from_the_future_gives_way_to_any_row_but_its_own():
    ahead = row(LOG, "a", seconds=86_400, revision=2, speed_kmh=1.0)
    again = row(LOG, "a", seconds=86_400, revision=1, speed_kmh=1.0)
    now = row(LOG, "b", seconds=-60, speed_kmh=2.0)
    for writes in ([ahead], [now]), ([ahead], [again], [now]), ([ahead, now], [now]):
        document = after(*([plain(one) for one in rows] for rows in writes))["V-1"]
        assert (document["speed_kmh"], document["seen_row"]) == (2.0, "b-0")
    assert after([plain(ahead)], [plain(again)]) == after([plain(ahead)])


def test_an_old_revision_of_a_row_changes_nothing():
    judged = row(LOG, "a", seconds=-60, revision=2, speed_kmh=1.0)
    seemed = row(LOG, "a", seconds=3600, revision=1, speed_kmh=1.0)
    assert after([plain(judged)], [plain(seemed)]) == after([plain(judged)])


def plain(one):
    """A row as the arguments of `row`."""
    seconds = (one["event_time"] - at(0)).total_seconds()
    kept = ("message_id", "sample_idx", "revision", "gone", "speed_kmh")
    return {"seconds": seconds, **{name: one[name] for name in kept}}


def test_a_document_of_older_software_without_receive_times_gets_them():
    document = of(newest(LOG, row(LOG, "a", seconds=5)))["V-1"]
    older = {name: one for name, one in document.items() if not name.endswith("_received_time")}
    again = of(merged(stored([older], {}), newest(LOG, row(LOG, "a", seconds=5)), LATEST))
    assert again == {"V-1": document}


def test_numbers_of_samples_are_compared_as_numbers():
    states = [newest(LOG, row(LOG, "a-1", sample_idx=index)) for index in (9, 10)]
    known = stored(list(of(states[0]).values()), {})
    assert of(merged(known, states[1], LATEST))["V-1"]["seen_row"] == "a-1-10"
    known = stored(list(of(states[1]).values()), {})
    assert merged(known, states[0], LATEST).height == 0
