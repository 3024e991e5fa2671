"""Rows in generations: whatever is rolled over, deleted or begun meanwhile, each key lies once."""

import itertools
from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import strategies as st

import connectors.sinks.elasticsearch.rollover as rollover
from connectors.errors import DependencyFailed
from connectors.sinks.elasticsearch.templates import REFRESHED_EVERY_S
from connectors.sinks.tables import MINUTES
from runners.stack.faults.rules import Answer, Rewrite
from tests.connectors.sinks.elasticsearch.histories import any_history, known
from tests.connectors.sinks.elasticsearch.rows import (
    GPS,
    LOG,
    OF_ROWS,
    at,
    oracle,
    row,
    some,
    table_of,
)

pytestmark = pytest.mark.servers

FIRST, SECOND, THIRD = (f"telemetry-gps-{number:06}" for number in (1, 2, 3))
DAY = 86_400
NUMBERS = itertools.count(1)


@pytest.fixture
def sink(store):
    return store.sink(index_by="rollover")


def lying(store):
    """Message ids by generation."""
    found = {}
    for index, key in store.documents("telemetry-gps-*"):
        found.setdefault(index, set()).add(key.partition("-")[0])
    return found


def while_answering(proxy, method, path, deed):
    """Do it once, after the node has answered such a request and before the sink hears of it."""

    def change(body):
        deed()
        return body

    return proxy.rule(method, path, Rewrite(change), times=1)


def test_rows_written_again_stay_in_the_generation_they_came_to(store, sink):
    first = some(GPS, 6)
    sink.write(GPS, first)
    assert store.roll_over(GPS) == SECOND
    again = [
        row(GPS, "m1", seconds=1, revision=2),
        row(GPS, "m2", seconds=2, revision=2, gone=True),
    ]
    second = table_of(GPS, [*again, row(GPS, "n1"), row(GPS, "n2")])
    for rows in (first, second, first, second):
        done = sink.write(GPS, rows)
        assert (done.rows, done.retries, done.refused.num_rows) == (rows.num_rows, 0, 0)
    assert store.roll_over(GPS) == THIRD
    third = table_of(GPS, [row(GPS, "n1", revision=3), row(GPS, "n2", revision=2, gone=True)])
    third = table_of(
        GPS, [*third.to_pylist(), row(GPS, "m1", seconds=1, revision=3), row(GPS, "o")]
    )
    sink.write(GPS, third)
    assert store.held(GPS) == oracle(first, second, third)
    assert lying(store) == {FIRST: {"m0", "m1", "m3", "m4", "m5"}, SECOND: {"n1"}, THIRD: {"o"}}


def test_what_was_written_just_before_a_rollover_is_found(store, sink):
    store.ask("PUT", f"{FIRST}/_settings", {"index.refresh_interval": "-1"})
    rows = some(GPS, 50)
    sink.write(GPS, rows)
    store.roll_over(GPS)
    sink.write(GPS, rows)
    assert store.held(GPS) == oracle(rows)
    assert lying(store).keys() == {FIRST}


def test_a_sink_that_starts_later_finds_what_another_wrote(store, sink):
    store.ask("PUT", f"{FIRST}/_settings", {"index.refresh_interval": "-1"})
    rows = some(GPS, 50)
    sink.write(GPS, rows)
    store.roll_over(GPS)
    later = some(GPS, 60, revision=2)
    store.sink(index_by="rollover").write(GPS, later)
    assert store.held(GPS) == oracle(rows, later)
    assert {index: len(ids) for index, ids in lying(store).items()} == {FIRST: 50, SECOND: 10}


def test_a_row_that_moves_to_another_date_is_taken_away_only_there(store, sink):
    first = table_of(GPS, [row(GPS, "a", revision=5)])
    moved = [row(GPS, "a", seconds=DAY, revision=7), row(GPS, "a", revision=7, gone=True)]
    for rows in (first, table_of(GPS, moved[::-1]), table_of(GPS, moved)):
        sink.write(GPS, rows)
        store.roll_over(GPS)
    assert store.held(GPS) == oracle(first, table_of(GPS, moved)) == {("2026.03.11", "a-0"): 7}


def test_minutes_stay_in_the_generation_they_came_to(store, sink):
    sink.prepare([MINUTES])
    one = {field.name: 0 for field in MINUTES.revised if not field.nullable}
    one |= {"minute": at(60), "device_nos": ["T-1"], "gone": False}
    first = [{**one, "vehicle_id": f"V-{number}", "revision": 1} for number in range(3)]
    second = [{**first[0], "revision": 2}, {**first[1], "revision": 2, "gone": True}]
    sink.write(MINUTES, pa.Table.from_pylist(first, schema=MINUTES.revised))
    store.roll_over(MINUTES)
    sink.write(MINUTES, pa.Table.from_pylist(second, schema=MINUTES.revised))
    found = store.documents("vehicle-minutes")
    assert {place: hit["_version"] for place, hit in found.items()} == {
        ("vehicle-minutes-000001", f"V-{number}-2026-03-10T12:01:00.000Z-2026.03.10"): revision
        for number, revision in ((0, 2), (2, 1))
    }


@any_history
def test_replays_converge_wherever_a_rollover_falls(store, history, data):
    number = next(NUMBERS)
    rows = known(history)
    for one in rows:
        one["message_id"] = f"{number}x{one['message_id']}"
    sink = store.sinks[0] if store.sinks else store.sink(index_by="rollover")
    starts = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=3))
    for start in (0, *starts):
        cut = data.draw(st.integers(start, len(rows)))
        for piece in (rows[start:cut], rows[cut:]):
            sink.write(GPS, table_of(GPS, piece))
            if data.draw(st.booleans()):
                store.roll_over(GPS)
    held = {
        key: version for key, version in store.held(GPS).items() if key[1].startswith(f"{number}x")
    }
    assert held == oracle(table_of(GPS, rows))


def test_rows_keep_their_generation_when_it_is_rolled_over_in_mid_write(store, proxy, sink):
    rows = some(GPS, 40)
    rolling = while_answering(proxy, "POST", OF_ROWS, lambda: store.roll_over(GPS))
    sink.write(GPS, rows.slice(0, 20))
    assert rolling.struck == 1
    while_answering(proxy, "GET", "features=aliases", lambda: store.roll_over(GPS))
    for _ in range(2):
        sink.write(GPS, rows)
    assert store.held(GPS) == oracle(rows)
    assert {index: len(ids) for index, ids in lying(store).items()} == {FIRST: 20, SECOND: 20}


def test_a_generation_deleted_between_look_up_and_write_is_not_made_again(store, proxy, sink):
    rows = some(GPS, 20)
    sink.write(GPS, rows)
    store.roll_over(GPS)
    gone = table_of(GPS, [row(GPS, "m3", seconds=3, revision=2, gone=True), row(GPS, "n")])
    both = table_of(GPS, [*rows.to_pylist(), *gone.to_pylist()])
    deleting = while_answering(proxy, "POST", "/_search", lambda: store.ask("DELETE", FIRST))
    done = sink.write(GPS, both)
    assert deleting.struck == 1
    assert (done.rows, done.refused.num_rows) == (22, 0)
    assert store.held(GPS) == oracle(both)
    assert lying(store).keys() == {SECOND}


def test_a_generation_deleted_between_two_writes_is_not_missed(store, sink):
    rows = some(GPS, 20)
    sink.write(GPS, rows)
    store.roll_over(GPS)
    sink.write(GPS, rows)
    store.ask("DELETE", FIRST)
    sink.write(GPS, rows)
    assert store.held(GPS) == oracle(rows)
    assert lying(store).keys() == {SECOND}


def test_an_older_generation_that_may_not_be_written_fails_the_work_and_is_named(store):
    sink = store.sink(index_by="rollover", max_retries=1)
    sink.write(GPS, some(GPS, 1))
    store.roll_over(GPS)
    store.ask("PUT", f"{FIRST}/_settings", {"index.blocks.write": True})
    with pytest.raises(DependencyFailed, match=rf"{store.prefix}{FIRST}.*cluster_block_exception"):
        sink.write(GPS, some(GPS, 2, revision=2))
    store.ask("PUT", f"{FIRST}/_settings", {"index.blocks.write": None})
    sink.write(GPS, some(GPS, 2, revision=2))
    assert store.held(GPS) == oracle(some(GPS, 2, revision=2))


def test_without_an_index_for_new_rows_the_work_fails_until_one_is_prepared(store, proxy):
    sink = store.sink(index_by="rollover", max_retries=1)
    while_answering(proxy, "GET", "features=aliases", lambda: store.ask("DELETE", FIRST))
    with pytest.raises(DependencyFailed, match=r"000001: HTTP 404 index_not_found.*prepare"):
        sink.write(GPS, some(GPS, 3))
    with pytest.raises(DependencyFailed, match=r"telemetry-gps is no alias.*write index.*prepare"):
        sink.write(GPS, some(GPS, 3))
    sink.prepare([GPS, LOG])
    assert sink.write(GPS, some(GPS, 3)).rows == 3
    assert lying(store).keys() == {FIRST}


def test_looking_is_patient(store, proxy, sink):
    rows = some(GPS, 20)
    sink.write(GPS, rows)
    store.roll_over(GPS)
    failed = b'{"_shards":{"total":2,"successful":1,"failed":1}}'
    product = {"X-Elastic-Product": "Elasticsearch", "Content-Type": "application/json"}
    faults = [
        proxy.rule("GET", "features=aliases", Answer(503), times=2),
        proxy.rule("POST", "/_refresh", Answer(200, failed, product), times=1),
        proxy.rule("POST", "/_search", Answer(429), times=2),
    ]
    sink.write(GPS, rows)
    assert [fault.struck for fault in faults] == [2, 1, 2]
    assert store.held(GPS) == oracle(rows)


def test_keys_are_looked_up_once_a_request_and_only_where_there_are_older_generations(
    store, proxy, sink
):
    looked, asked, refreshed = (
        proxy.rule(*one)
        for one in (("GET", "features=aliases"), ("POST", "/_search"), ("POST", "/_refresh"))
    )
    sink.write(GPS, some(GPS, 20))
    assert (looked.seen, asked.seen, refreshed.seen) == (1, 0, 0)
    store.roll_over(GPS)
    for _ in range(3):
        sink.write(GPS, some(GPS, 20))
    assert (looked.seen, asked.seen, refreshed.seen) == (4, 3, 3)


def test_older_generations_are_refreshed_as_long_as_requests_may_still_come_to_them(store, proxy):
    retrying = {"max_retries": 2, "retry_backoff_max_ms": 10_000, "request_timeout_s": 20}
    sink, refreshed = store.sink(index_by="rollover", **retrying), proxy.rule("POST", "/_refresh")
    still, over = 3 * (20 + 10) + REFRESHED_EVERY_S, 1
    for rolled in (1, 2):
        store.roll_over(GPS)
        for seconds in (0, still, over, over):
            store.time += timedelta(seconds=seconds)
            sink.write(GPS, some(GPS, 2))
        assert refreshed.seen == 2 * rolled
    store.ask("DELETE", FIRST)
    sink.write(GPS, some(GPS, 2))
    assert refreshed.seen == 4


def test_a_row_that_lands_in_a_generation_after_it_was_rolled_over_is_found_there(
    store, proxy, sink
):
    store.ask("PUT", f"{FIRST}/_settings", {"index.refresh_interval": "-1"})
    other = store.sink(index_by="rollover", hosts=(store.node.address,))
    first = some(GPS, 20)

    def meanwhile():
        store.roll_over(GPS)
        other.write(GPS, table_of(GPS, [row(GPS, "elsewhere")]))

    looked = while_answering(proxy, "GET", "features=aliases", meanwhile)
    sink.write(GPS, first)
    assert looked.struck == 1
    revised = [row(GPS, "m1", seconds=1, revision=2)]
    revised += [row(GPS, "m2", seconds=2, revision=2, gone=True), row(GPS, "elsewhere")]
    other.write(GPS, table_of(GPS, revised))
    assert store.held(GPS) == oracle(first, table_of(GPS, revised))
    assert lying(store)[SECOND] == {"elsewhere"}


def test_daily_indices_cost_no_more_requests(store, proxy):
    sink = store.sink()
    posted, got = proxy.rule("POST", ""), proxy.rule("GET", "")
    sink.write(GPS, some(GPS, 20, vehicle_id=None))
    assert (posted.seen, got.seen) == (1, 0)


def test_many_keys_are_looked_up_in_parts(store, sink, monkeypatch):
    monkeypatch.setattr(rollover, "MOST_ASKED", 7)
    first, second = some(GPS, 30), some(GPS, 50, revision=2)
    sink.write(GPS, first)
    store.roll_over(GPS)
    sink.write(GPS, second)
    assert store.held(GPS) == oracle(second)
    assert {index: len(ids) for index, ids in lying(store).items()} == {FIRST: 30, SECOND: 20}


def test_requests_that_are_halved_keep_the_places_of_their_rows(store):
    sink = store.sink(index_by="rollover", batch_bytes=64 << 10)
    first = some(GPS, 90, quality_flags=['"' * 600])
    sink.write(GPS, first.slice(0, 45))
    store.roll_over(GPS)
    sink.write(GPS, first)
    assert store.held(GPS) == oracle(first)
    assert {index: len(ids) for index, ids in lying(store).items()} == {FIRST: 45, SECOND: 45}


def test_a_key_leaves_room_for_the_date(store, sink):
    rows = table_of(GPS, [row(GPS, "x" * 499), row(GPS, "y" * 500)])
    done = sink.write(GPS, rows)
    assert done.rows == 1
    assert "501 bytes" in done.refused["error_message"][0].as_py()
    assert store.held(GPS) == oracle(rows.slice(0, 1))
