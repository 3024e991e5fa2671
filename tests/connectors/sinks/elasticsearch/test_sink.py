"""What Elasticsearch holds after writing."""

import urllib.error

import pyarrow as pa
import pytest

from connectors.sinks.tables import MINUTES
from tests.connectors.sinks.elasticsearch.rows import (
    GPS,
    LOG,
    NOON,
    at,
    oracle,
    row,
    some,
    table_of,
)

pytestmark = pytest.mark.servers


def test_every_row_is_a_document_of_its_day_under_its_key(store):
    rows = table_of(
        GPS,
        [
            row(GPS, "a", 0, seconds=0, revision=7),
            row(GPS, "a", 1, seconds=86_399 - 43_200, revision=7),
            row(GPS, "a", 2, seconds=86_400 - 43_200, revision=7),
        ],
    )
    done = store.sink().write(GPS, rows)
    assert (done.rows, done.refused.num_rows, done.retries) == (3, 0, 0)
    assert (
        store.held(GPS)
        == oracle(rows)
        == {
            ("2026.03.10", "a-0"): 7,
            ("2026.03.10", "a-1"): 7,
            ("2026.03.11", "a-2"): 7,
        }
    )


def test_a_document_has_a_point_iso_times_and_no_nulls(store):
    extras = [("trip", 'a "b"\n'), ("x", "1")]
    rows = table_of(GPS, [row(GPS, "a", seconds=1.5, speed_kmh=31.25, extras=extras, seq=9)])
    store.sink().write(GPS, rows)
    [hit] = store.documents().values()
    assert hit["_source"] == {
        "message_id": "a",
        "sample_idx": 0,
        "device_no": "T-1",
        "vehicle_id": "V-1",
        "event_time": "2026-03-10T12:00:01.500Z",
        "received_time": "2026-03-10T12:00:01.500Z",
        "time_source": "DEVICE",
        "quality_flags": [],
        "binding_status": "BOUND",
        "topic": "message-gps",
        "partition": 3,
        "line": 0,
        "device_gen": "STS",
        "seq": 9,
        "extras": {"trip": 'a "b"\n', "x": "1"},
        "fix_type": "FIX_3D",
        "speed_kmh": 31.25,
        "revision": 1,
        "location": {"lat": 37.5, "lon": 127.0},
    }


def test_a_point_needs_both_of_its_halves(store):
    halves = [{"lat_deg": None}, {"lon_deg": None}, {"lat_deg": float("nan")}]
    rows = table_of(GPS, [row(GPS, f"m{n}", **half) for n, half in enumerate(halves)])
    assert store.sink().write(GPS, rows).refused.num_rows == 0
    assert [hit["_source"].get("location") for hit in store.documents().values()] == [None] * 3


def test_documents_are_found_by_place_time_and_field(store):
    near, far = {"lat_deg": 37.5, "lon_deg": 127.0}, {"lat_deg": 35.1, "lon_deg": 129.0}
    rows = table_of(
        LOG,
        [
            row(LOG, "a", seconds=0, ignition_on=True, **near),
            row(LOG, "b", seconds=60, ignition_on=False, dtc_codes=["P0300"], **far),
        ],
    )
    store.sink().write(LOG, rows)
    store.ask("POST", "telemetry-log/_refresh")

    def found(query):
        hits = store.ask("POST", "telemetry-log/_search", {"query": query})["hits"]["hits"]
        return [hit["_id"] for hit in hits]

    around = {"distance": "10km", "location": {"lat": 37.5, "lon": 127.0}}
    assert found({"geo_distance": around}) == ["a-0"]
    assert found({"range": {"event_time": {"gte": "2026-03-10T12:00:30Z"}}}) == ["b-0"]
    assert found({"term": {"ignition_on": True}}) == ["a-0"]
    assert found({"term": {"dtc_codes": "P0300"}}) == ["b-0"]


def test_a_repeat_changes_nothing_and_counts_as_written(store):
    rows, sink = some(GPS, 50), store.sink()
    sink.write(GPS, rows)
    again = sink.write(GPS, rows)
    assert (again.rows, again.retries, again.refused.num_rows) == (50, 0, 0)
    assert store.held(GPS) == oracle(rows)


def test_the_highest_revision_counts_in_whatever_order_it_comes(store):
    sink = store.sink()
    for revision in (5, 9, 7):
        rows = table_of(GPS, [row(GPS, "a", revision=revision, speed_kmh=float(revision))])
        sink.write(GPS, rows)
    [hit] = store.documents().values()
    assert (hit["_version"], hit["_source"]["speed_kmh"]) == (9, 9.0)


def test_revisions_of_one_key_in_one_write_end_at_the_highest(store):
    rows = table_of(GPS, [row(GPS, "a", revision=n) for n in (3, 1, 4, 2)])
    assert store.sink().write(GPS, rows).rows == 4
    assert store.held(GPS) == {("2026.03.10", "a-0"): 4}


def test_a_row_that_is_gone_disappears_and_stays_away(store):
    sink = store.sink()
    first, gone = some(GPS, 3, revision=1), table_of(GPS, [row(GPS, "m1", revision=2, gone=True)])
    for rows in (first, gone, first):
        sink.write(GPS, rows)
    assert store.held(GPS) == oracle(first, gone)
    assert len(store.held(GPS)) == 2


def test_a_row_that_is_gone_before_it_came_is_no_error(store):
    done = store.sink().write(GPS, table_of(GPS, [row(GPS, "a", revision=2, gone=True)]))
    assert (done.rows, done.refused.num_rows) == (1, 0)
    assert store.held(GPS) == {}


def test_rows_of_days_no_longer_kept_are_done_with(store):
    days = [row(GPS, "a", seconds=-86_400 * day) for day in (0, 3, 4)]
    done = store.sink(searchable_days=3).write(GPS, table_of(GPS, days))
    assert done.rows == 3
    assert {day for day, _ in store.held(GPS)} == {"2026.03.10", "2026.03.07"}


def test_rows_of_days_that_only_a_wrong_clock_says_are_done_with(store):
    days = [row(GPS, "a", seconds=86_400 * day) for day in (0, 2, 3, 2_900_000)]
    done = store.sink().write(GPS, table_of(GPS, days))
    assert (done.rows, done.refused.num_rows) == (4, 0)
    assert {day for day, _ in store.held(GPS)} == {"2026.03.10", "2026.03.12"}


def test_an_older_index_takes_documents_with_fields_it_does_not_know(store):
    sink = store.sink()
    narrow = {"properties": {"message_id": {"type": "keyword"}}, "dynamic": False}
    store.ask("PUT", f"telemetry-gps-{NOON:%Y.%m.%d}", {"mappings": narrow})
    rows = some(GPS, 2)
    assert sink.write(GPS, rows).rows == 2
    store.sink()
    index = f"telemetry-gps-{NOON:%Y.%m.%d}"
    fields = store.ask("GET", f"{index}/_mapping")[store.prefix + index]["mappings"]["properties"]
    assert fields["location"]["type"] == "geo_point"
    assert store.held(GPS) == oracle(rows)


def test_nothing_is_written_of_nothing(store):
    done = store.sink().write(GPS, GPS.revised.empty_table())
    assert (done.rows, done.size, done.refused.num_rows) == (0, 0, 0)
    with pytest.raises(urllib.error.HTTPError):
        store.ask("GET", f"telemetry-gps-{at(0):%Y.%m.%d}")


def test_minutes_are_documents_of_their_day_too(store):
    one = dict.fromkeys(MINUTES.revised.names)
    one |= {field.name: 0 for field in MINUTES.revised if not field.nullable}
    one |= {"vehicle_id": "V-1", "minute": at(60), "device_nos": ["T-1"], "gone": False}
    one |= {"first_lat_deg": 37.5, "first_lon_deg": 127.0, "speed_max_kmh": 50.0}
    sink = store.sink()
    sink.prepare([MINUTES])
    for revision in (4, 6, 5):
        rows = pa.Table.from_pylist([{**one, "revision": revision}], schema=MINUTES.revised)
        assert sink.write(MINUTES, rows).rows == 1
    [((index, key), hit)] = store.documents("vehicle-minutes").items()
    assert (index, key) == ("vehicle-minutes-2026.03.10", "V-1-2026-03-10T12:01:00.000Z")
    assert (hit["_version"], hit["_source"]["revision"]) == (6, 6)
    assert hit["_source"]["first_location"] == {"lat": 37.5, "lon": 127.0}
    assert store.vehicle() is None
