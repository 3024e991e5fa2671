"""The index of vehicles holds the newest of each, whoever writes in whatever order."""

import json
import threading
from datetime import datetime

import pyarrow as pa
import pytest

from connectors.errors import DependencyFailed
from connectors.sinks.elasticsearch.vehicle_documents import GROUPS
from runners.stack.faults.rules import Answer, LoseAnswer, Rewrite
from tests.connectors.sinks.elasticsearch.rows import GPS, LOG, at, oracle, row, some, table_of
from tests.support.vehicle_state_cases import CASES, MOVED, Rounds
from transforms.facts.vehicle_state import SEEN

pytestmark = pytest.mark.servers


def test_a_vehicle_is_one_document_of_what_all_its_uploads_say(store):
    sink = store.sink()
    said = {"ignition_on": True, "locked": False, "aux_battery_v": 12.5, "odometer_m": 1000}
    sink.write(LOG, table_of(LOG, [row(LOG, "a", seconds=10, speed_kmh=1.0, **said)]))
    sink.write(GPS, table_of(GPS, [row(GPS, "b", seconds=20, speed_kmh=2.0, lat_deg=38.0)]))
    known = store.vehicle()
    assert {name: known[name] for name in said} == said
    assert (known["speed_kmh"], known["location"]["lat"]) == (2.0, 38.0)
    assert known["ignition_time"] == "2026-03-10T12:00:10.000Z"
    assert known["position_time"] == known["seen_time"] == "2026-03-10T12:00:20.000Z"


def test_each_shared_case_in_any_order_and_any_cut(store):
    sink, rounds = store.sink(), Rounds([*CASES, *MOVED], 6)

    def write(table, rows):
        assert sink.write(table, rows).refused.num_rows == 0
        store.ask("POST", "vehicles/_refresh")  # documents to take something back from are searched

    rounds.write(write)
    rounds.check(by_rule(store))


def by_rule(store):
    """What the store says of vehicles, in the form of the shared cases."""
    found = {}
    for (_, vehicle), hit in store.documents("vehicles").items():
        known = hit["_source"]
        known |= {f"{name}_deg": known.get("location", {}).get(name) for name in ("lat", "lon")}
        found[vehicle] = {group.name: setter_of(known, group) for group in GROUPS}
    return found


def setter_of(known, group):
    """What a document says of the row that set a group."""
    if f"{group.name}_time" not in known:
        return None
    received = "received_time" if group.name == SEEN else f"{group.name}_received_time"
    times = (datetime.fromisoformat(known[name]) for name in (f"{group.name}_time", received))
    message, _, sample = known[f"{group.name}_row"].rpartition("-")
    values = {name: known.get(name) for name in group.columns}
    return (*times, message, int(sample), known[f"{group.name}_revision"], values)


def test_a_late_upload_never_turns_it_back(store):
    sink = store.sink()
    late = row(LOG, "b", seconds=5, speed_kmh=5.0, ignition_on=False, fuel_level_pct=40.0)
    sink.write(LOG, table_of(LOG, [row(LOG, "a", seconds=10, speed_kmh=9.0, ignition_on=True)]))
    sink.write(LOG, table_of(LOG, [late]))
    known = store.vehicle()
    assert (known["speed_kmh"], known["ignition_on"]) == (9.0, True)
    assert known["fuel_level_pct"] == 40.0


def test_a_clock_that_is_far_ahead_freezes_no_vehicle(store):
    sink = store.sink(ahead_s=600)
    sink.write(LOG, table_of(LOG, [row(LOG, "a", seconds=86_400 * 3_000, speed_kmh=1.0)]))
    assert store.vehicle()["speed_kmh"] == 1.0
    sink.write(LOG, table_of(LOG, [row(LOG, "b", seconds=500, speed_kmh=2.0)]))
    assert store.vehicle()["speed_kmh"] == 2.0
    sink.write(LOG, table_of(LOG, [row(LOG, "c", seconds=0, speed_kmh=3.0)]))
    assert store.vehicle()["speed_kmh"] == 2.0


def test_a_vehicle_whose_id_no_document_may_have_keeps_no_other_back(store, caplog):
    ids = ["", "x" * 513, "y" * 512, "é" * 257, "V-1"]
    rows = table_of(LOG, [row(LOG, f"m{n}", vehicle_id=one) for n, one in enumerate(ids)])
    done = store.sink().write(LOG, rows)
    assert (done.rows, done.refused.num_rows) == (5, 0)
    assert store.held(LOG) == oracle(rows)
    assert {key for _, key in store.documents("vehicles")} == {"y" * 512, "V-1"}
    assert "3 vehicles have no state" in caplog.text


def of_vehicles(*numbers, **values):
    """A row of each vehicle, which an index that was `remade` refuses."""
    rows = [row(LOG, f"m{n}", seconds=n, vehicle_id=f"V-{n}", speed_kmh=31.0) for n in numbers]
    return table_of(LOG, [{**one, **values} for one in rows])


def remade(store):
    """A sink, whose index of vehicles somebody has made otherwise since."""
    sink = store.sink()
    store.ask("DELETE", "vehicles")
    store.ask("PUT", "vehicles", {"mappings": {"properties": {"speed_kmh": {"type": "boolean"}}}})
    return sink


def test_vehicles_that_the_store_refuses_are_told_by_number_and_kind_only(store, caplog):
    sink, rows = remade(store), of_vehicles(*range(12))
    good = of_vehicles(99, speed_kmh=None)
    done = sink.write(LOG, pa.concat_tables([rows, good]))
    assert (done.rows, done.refused.num_rows) == (13, 0)
    assert {key for _, key in store.documents("vehicles")} == {"V-99"}
    [told] = [one.getMessage() for one in caplog.records if "refused" in one.getMessage()]
    assert f"{store.prefix}vehicles: 12 refused: 12 document_parsing_exception;" in told
    assert "V-" not in told
    assert "speed_kmh" not in told


def test_an_index_that_refuses_every_vehicle_fails_the_work_and_is_named(store):
    sink, rows = remade(store), of_vehicles(*range(8))
    wanted = rf"{store.prefix}vehicles: 8 refused: 8 document_parsing_exception.*mapping"
    with pytest.raises(DependencyFailed, match=wanted) as failed:
        sink.write(LOG, rows)
    assert "V-" not in str(failed.value)
    store.ask("DELETE", "vehicles")
    assert sink.write(LOG, rows).rows == 8
    assert store.vehicle("V-7")["speed_kmh"] == 31.0


def test_an_index_is_doubted_after_several_writes_too(store):
    sink = remade(store)
    sink.write(LOG, of_vehicles(*range(7)))
    sink.write(LOG, of_vehicles(20, speed_kmh=None))
    sink.write(LOG, of_vehicles(*range(7, 14)))
    with pytest.raises(DependencyFailed, match="of 8 vehicles none was kept"):
        sink.write(LOG, of_vehicles(14))


def test_a_vehicle_that_is_refused_again_and_again_stops_no_other(store):
    sink = remade(store)
    for _ in range(10):
        assert sink.write(LOG, of_vehicles(1)).rows == 1
    sink.write(LOG, of_vehicles(2, speed_kmh=None))
    assert store.vehicle("V-2")["seen_row"] == "m2-0"


def test_only_the_newest_of_a_vehicle_is_sent_and_nothing_twice(store, proxy):
    sent = []

    def count(body):
        sent.append(len(json.loads(body)["items"]))
        return body

    sink, rows = store.sink(), some(GPS, 300)
    proxy.rule("POST", "/_bulk", Rewrite(count))
    sink.write(GPS, rows)
    assert sorted(sent) == [1, 300]
    sink.write(GPS, rows)
    assert sorted(sent) == [1, 300, 300]


FAULTS = [Answer(503), Answer(429), LoseAnswer()]


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_a_fault_of_writing_leaves_the_newest(store, proxy, fault):
    sink = store.sink()
    sink.write(LOG, table_of(LOG, [row(LOG, "a", seconds=1, speed_kmh=1.0)]))
    proxy.rule("POST", "_bulk.*_seq_no", fault, times=3)
    done = sink.write(LOG, table_of(LOG, [row(LOG, "b", seconds=2, speed_kmh=2.0)]))
    unheard = fault == LoseAnswer()  # it is in its own way then, and is read
    assert (done.rows, done.retries, done.refused.num_rows) == (1, 3 + unheard, 0)
    assert store.vehicle()["speed_kmh"] == 2.0


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_a_fault_of_reading_leaves_the_newest(store, proxy, fault):
    store.sink().write(LOG, table_of(LOG, [row(LOG, "a", seconds=1, speed_kmh=1.0)]))
    proxy.rule("POST", "_mget", fault, times=3)
    done = store.sink().write(LOG, table_of(LOG, [row(LOG, "b", seconds=2, speed_kmh=2.0)]))
    assert (done.rows, done.retries, done.refused.num_rows) == (1, 3, 0)
    assert store.vehicle()["speed_kmh"] == 2.0


def test_what_a_sink_wrote_it_does_not_read_again(store, proxy):
    answers = []

    def note(body):
        answers.append(body)
        return body

    sink = store.sink()
    proxy.rule("POST", "/_mget", Rewrite(note))
    for second in range(5):
        rows = of_vehicles(1, 2, message_id=f"n{second}", event_time=at(second))
        sink.write(LOG, rows)
    assert answers == [b"{}"]
    assert [store.vehicle(f"V-{n}")["seen_row"] for n in (1, 2)] == ["n4-0", "n4-0"]


def test_what_another_wrote_since_is_kept(store):
    sink, other = store.sink(), store.sink()
    for second, (one, name) in enumerate(
        [(sink, "speed_kmh"), (other, "odometer_m"), (sink, "aux_battery_v"), (other, "speed_kmh")]
    ):
        said = {"speed_kmh": None, name: second}
        one.write(LOG, table_of(LOG, [row(LOG, f"m{second}", seconds=second, **said)]))
    known = store.vehicle()
    assert [known[name] for name in ("odometer_m", "aux_battery_v", "speed_kmh")] == [1, 2, 3]


def test_a_deleted_index_comes_back_with_the_next_uploads(store):
    sink = store.sink()
    sink.write(LOG, of_vehicles(1, 2))
    store.ask("DELETE", "vehicles")
    sink.write(LOG, of_vehicles(2, message_id="later", event_time=at(100)))
    assert {key for _, key in store.documents("vehicles")} == {"V-2"}


def test_vehicles_are_found_on_the_map_and_by_state(store):
    rows = [row(LOG, "a", locked=True), row(LOG, "b", vehicle_id="V-2", locked=False, lat_deg=35.0)]
    store.sink().write(LOG, table_of(LOG, rows))
    store.ask("POST", "vehicles/_refresh")

    def found(query):
        hits = store.ask("POST", "vehicles/_search", {"query": query})["hits"]["hits"]
        return [hit["_id"] for hit in hits]

    assert found({"term": {"locked": True}}) == ["V-1"]
    around = {"distance": "10km", "location": {"lat": 35.0, "lon": 127.0}}
    assert found({"geo_distance": around}) == ["V-2"]


def test_writers_beside_each_other_end_at_the_newest(store):
    sinks = [store.sink(max_retries=100) for _ in range(4)]
    failed = []

    def write(place):
        try:
            for second in range(place, 24, 4):
                field = ("speed_kmh", "odometer_m", "aux_battery_v", "fuel_level_pct")[place]
                one = row(LOG, f"m{second}", seconds=second, **{field: second})
                sinks[place].write(LOG, table_of(LOG, [one]))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=[place]) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failed == []
    known = store.vehicle()
    said = [known[name] for name in ("speed_kmh", "odometer_m", "aux_battery_v", "fuel_level_pct")]
    assert said == [20, 21, 22, 23]
    assert known["seen_row"] == "m23-0"
