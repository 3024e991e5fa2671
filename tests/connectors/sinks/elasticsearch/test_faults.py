"""Whatever goes wrong on the way or in the store, each row is there once, or refused for a reason
of its own; an outage never makes a dead letter."""

import json
import re
import threading
import time

import pytest

from connectors.errors import BadSettings, DependencyFailed
from connectors.sinks.elasticsearch.client import Connection
from connectors.sinks.elasticsearch.sink import ElasticsearchSink
from runners.stack.faults.rules import (
    Answer,
    Delay,
    LoseAnswer,
    Reset,
    ResetInAnswer,
    ResetInRequest,
    Rewrite,
)
from tests.connectors.sinks.elasticsearch.rows import (
    GPS,
    NOON,
    OF_ROWS,
    oracle,
    row,
    some,
    table_of,
)

pytestmark = pytest.mark.servers

TODAY = f"telemetry-gps-{NOON:%Y.%m.%d}"
REJECTED = {"type": "es_rejected_execution_exception", "reason": "queue is full"}
BROKEN = {"type": "circuit_breaking_exception", "reason": "data too large"}
AWAY = {"type": "unavailable_shards_exception", "reason": "primary shard is not active"}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_request_that_is_turned_away_goes_again(store, proxy, status):
    sink, rows = store.sink(), some(GPS, 20)
    rule = proxy.rule("POST", OF_ROWS, Answer(status, b"<html>busy</html>"), times=2)
    done = sink.write(GPS, rows)
    assert rule.struck == 2
    assert (done.rows, done.retries, done.refused.num_rows) == (20, 2, 0)
    assert store.held(GPS) == oracle(rows)


@pytest.mark.parametrize(
    "fault",
    [Reset(), ResetInRequest(100), LoseAnswer(), ResetInAnswer(5)],
    ids=lambda fault: type(fault).__name__,
)
def test_a_broken_connection_is_made_again(store, proxy, fault):
    sink, rows = store.sink(), some(GPS, 200)
    proxy.rule("POST", OF_ROWS, fault, times=2)
    done = sink.write(GPS, rows)
    assert (done.rows, done.retries, done.refused.num_rows) == (200, 2, 0)
    assert store.held(GPS) == oracle(rows)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'{"errors":', b'{"error":"no"}', b'{"errors":true,"items":[]}'],
    ids=["empty", "nothing", "a list", "cut off", "an error", "other rows"],
)
def test_an_answer_that_does_not_tell_what_became_of_rows_is_none(store, proxy, body):
    sink, rows = store.sink(), some(GPS, 20)
    proxy.rule("POST", OF_ROWS, Answer(200, body, {"Content-Type": "application/json"}), times=1)
    done = sink.write(GPS, rows)
    assert (done.rows, done.retries, done.refused.num_rows) == (20, 1, 0)
    assert store.held(GPS) == oracle(rows)


def test_a_request_that_is_not_answered_goes_again(store, proxy):
    sink, rows = store.sink(request_timeout_s=1), some(GPS, 20)
    proxy.rule("POST", OF_ROWS, Delay(30), times=1)
    assert sink.write(GPS, rows).retries == 1
    assert store.held(GPS) == oracle(rows)


def told(error, *places):
    """Makes items of a bulk answer say `error`, a (status, error)."""
    status, words = error

    def change(body):
        answer = json.loads(body)
        for place in places:
            (item,) = answer["items"][place].values()
            item.update(status=status, error=words)
        return json.dumps({**answer, "errors": True}).encode()

    return change


@pytest.mark.parametrize("error", [(429, REJECTED), (429, BROKEN), (503, AWAY)])
def test_only_the_rows_that_were_turned_away_go_again(store, proxy, error):
    sink, rows, counts = store.sink(), some(GPS, 20), []
    proxy.rule("POST", OF_ROWS, Rewrite(told(error, 3, 11)), times=1)

    def count(body):
        counts.append(len(json.loads(body)["items"]))
        return body

    proxy.rule("POST", OF_ROWS, Rewrite(count), first=2, times=1)
    done = sink.write(GPS, rows)
    assert counts == [2]
    assert (done.rows, done.retries, done.refused.num_rows) == (20, 1, 0)
    assert store.held(GPS) == oracle(rows)


def test_refused_rows_are_dead_letters_and_stop_no_other(store):
    sink = store.sink()
    wrong = {"properties": {"speed_kmh": {"type": "boolean"}, "location": {"type": "geo_point"}}}
    store.ask("PUT", TODAY, {"mappings": {"dynamic": False, **wrong}})
    bad = [row(GPS, "a", speed_kmh=31.0), row(GPS, "b", lat_deg=95.0, lon_deg=1.0)]
    good = [row(GPS, f"g{n}") for n in range(10)]
    done = sink.write(GPS, table_of(GPS, [bad[0], *good, bad[1]]))
    assert (done.rows, done.retries) == (10, 0)
    assert store.held(GPS) == oracle(table_of(GPS, good))
    first, second = done.refused.to_pylist()
    assert "speed_kmh" in first["error_message"]
    assert first["error_message"].startswith("elasticsearch: document_parsing_exception")
    assert "latitude" in second["error_message"]
    assert json.loads(second["raw_value"])["message_id"] == "b"
    assert {letter["stage"] for letter in (first, second)} == {"SINK"}


def test_refused_rows_are_refused_alike_when_others_go_again(store, proxy):
    sink = store.sink()
    store.ask("PUT", TODAY, {"mappings": {"properties": {"speed_kmh": {"type": "boolean"}}}})
    rows = [row(GPS, f"m{n}", speed_kmh=31.0 if n == 5 else None) for n in range(10)]
    proxy.rule("POST", OF_ROWS, Rewrite(told((429, REJECTED), 4, 6)), times=1)
    done = sink.write(GPS, table_of(GPS, rows))
    assert (done.rows, done.retries, done.refused.num_rows) == (9, 1, 1)
    assert store.held(GPS) == oracle(table_of(GPS, rows[:5] + rows[6:]))


def test_a_key_too_long_for_the_store_is_refused_alone(store):
    rows = table_of(GPS, [row(GPS, "x" * 511), row(GPS, "y" * 510), row(GPS, "é" * 255)])
    done = store.sink().write(GPS, rows)
    assert done.rows == 2
    assert store.held(GPS) == oracle(rows.slice(1))
    assert "512 bytes" in done.refused["error_message"][0].as_py()


@pytest.mark.parametrize("block", ["read_only_allow_delete", "write"])
def test_a_block_on_an_index_is_waited_out(store, proxy, block):
    sink, rows = store.sink(max_retries=50), some(GPS, 20)
    sink.write(GPS, rows.slice(0, 1))
    store.ask("PUT", f"{TODAY}/_settings", {f"index.blocks.{block}": True})
    rule = proxy.rule("POST", OF_ROWS)
    done = []
    writing = threading.Thread(target=lambda: done.append(sink.write(GPS, rows)))
    writing.start()
    until(lambda: rule.seen >= 2)
    store.ask("PUT", f"{TODAY}/_settings", {f"index.blocks.{block}": None})
    writing.join(60)
    assert (done[0].rows, done[0].refused.num_rows) == (20, 0)
    assert done[0].retries >= 1
    assert store.held(GPS) == oracle(rows)


def test_a_block_that_stays_fails_the_work_and_says_where(store, proxy):
    sink, rows = store.sink(max_retries=1), some(GPS, 3)
    sink.write(GPS, rows.slice(0, 1))
    store.ask("PUT", f"{TODAY}/_settings", {"index.blocks.read_only_allow_delete": True})
    with pytest.raises(DependencyFailed) as failed:
        sink.write(GPS, rows)
    words = str(failed.value)
    for part in (proxy.url, store.prefix + TODAY, "429", "cluster_block_exception", "free space"):
        assert part in words
    store.ask("PUT", f"{TODAY}/_settings", {"index.blocks.read_only_allow_delete": None})


def test_a_cluster_full_of_shards_is_no_fault_of_the_rows(store, proxy):
    sink = store.sink(max_retries=1)
    full = {"type": "validation_exception", "reason": "this action would add [2] shards"}
    proxy.rule("POST", OF_ROWS, Rewrite(told((400, full), 0)))
    with pytest.raises(DependencyFailed, match=r"this action would add.*prune, or raise"):
        sink.write(GPS, some(GPS, 2))


@pytest.mark.parametrize("which", ["default_pipeline", "final_pipeline"])
def test_a_pipeline_that_is_missing_is_no_fault_of_the_rows(store, which):
    sink, rows = store.sink(max_retries=1), some(GPS, 20)
    sink.write(GPS, rows.slice(0, 5))
    store.ask("PUT", f"{TODAY}/_settings", {f"index.{which}": "missing"})
    with pytest.raises(DependencyFailed, match=rf"{TODAY}: HTTP 400 .*\[missing\].*pipelines"):
        sink.write(GPS, some(GPS, 20, revision=2))
    store.ask("PUT", f"{TODAY}/_settings", {f"index.{which}": "_none"})
    done = sink.write(GPS, rows)
    assert (done.rows, done.refused.num_rows) == (20, 0)
    assert store.held(GPS) == oracle(rows)


@pytest.mark.parametrize(
    "reason",
    [
        "no write index is defined for alias [telemetry-gps]",
        "Number of documents in the index can't exceed [2147483519]",
        "Limit of total fields [1000] has been exceeded",
        "a reason that nobody has heard of yet",
    ],
)
def test_what_is_illegal_for_a_reason_we_do_not_know_is_no_fault_of_the_rows(store, proxy, reason):
    sink = store.sink(max_retries=1)
    illegal = {"type": "illegal_argument_exception", "reason": reason}
    proxy.rule("POST", OF_ROWS, Rewrite(told((400, illegal), 0)))
    with pytest.raises(DependencyFailed, match=re.escape(reason)):
        sink.write(GPS, some(GPS, 2))


def test_a_row_with_a_term_too_long_for_its_index_is_refused_alone(store):
    sink = store.sink()
    whole = {"properties": {"device_no": {"type": "text", "analyzer": "keyword"}}}
    store.ask("PUT", TODAY, {"mappings": whole})
    bad, good = row(GPS, "a", device_no="x" * 40_000), [row(GPS, f"g{n}") for n in range(5)]
    done = sink.write(GPS, table_of(GPS, [*good, bad]))
    assert (done.rows, done.retries) == (5, 0)
    [letter] = done.refused.to_pylist()
    assert "illegal_argument_exception: Document contains at least" in letter["error_message"]
    assert store.held(GPS) == oracle(table_of(GPS, good))


def test_a_request_too_large_is_parted_until_it_fits(store, proxy):
    sink, rows = store.sink(), some(GPS, 16)
    rule = proxy.rule("POST", OF_ROWS, Answer(413), times=3)
    done = sink.write(GPS, rows)
    assert (done.rows, done.retries, done.refused.num_rows) == (16, 0, 0)
    assert rule.struck == 3
    assert store.held(GPS) == oracle(rows)


def test_a_row_too_large_by_itself_is_refused(store, proxy):
    proxy.rule("POST", "/_bulk", Answer(413))
    done = store.sink().write(GPS, some(GPS, 3))
    assert (done.rows, done.refused.num_rows) == (0, 3)
    assert "413" in done.refused["error_message"][0].as_py()


@pytest.mark.parametrize("status", [401, 403])
def test_a_store_that_does_not_let_us_in_fails_the_work_at_once(store, proxy, status):
    sink = store.sink()
    body = b'{"error":{"type":"security_exception","reason":"key is revoked"},"status":401}'
    rule = proxy.rule("POST", OF_ROWS, Answer(status, body, {"Content-Type": "application/json"}))
    with pytest.raises(DependencyFailed, match=rf"{status} security_exception.*revoked.*api_key"):
        sink.write(GPS, some(GPS, 3))
    assert rule.seen == 1


def test_what_is_not_elasticsearch_is_not_taken_for_it(store, proxy):
    proxy.rule("", "", Answer(200, b"{}"))
    with pytest.raises(DependencyFailed, match="is not Elasticsearch"):
        store.sink()


def test_a_store_that_stays_away_fails_the_work(store, proxy):
    sink = store.sink(max_retries=2)
    proxy.close()
    with pytest.raises(
        DependencyFailed, match=r"gave up after 2 retries: elasticsearch http.*Conn"
    ):
        sink.write(GPS, some(GPS, 3))
    proxy.start()
    assert sink.write(GPS, some(GPS, 3)).rows == 3


def test_one_of_several_hosts_is_enough(store, proxy):
    sink = store.sink(hosts=("http://127.0.0.1:1", proxy.url))
    rows = some(GPS, 10)
    assert sink.write(GPS, rows).rows == 10
    assert store.held(GPS) == oracle(rows)


def test_no_more_is_held_than_what_may_be_on_its_way(store, proxy, monkeypatch):
    sizes, on_their_way, most = [], [0], [0]
    lines, lock = Connection.lines, threading.Lock()

    def watched(self, path, body):
        with lock:
            sizes.append(len(body))
            on_their_way[0] += 1
            most[0] = max(most[0], on_their_way[0])
        try:
            return lines(self, path, body)
        finally:
            with lock:
                on_their_way[0] -= 1

    monkeypatch.setattr(Connection, "lines", watched)
    limits = {"batch_size": 40, "batch_bytes": 64 << 10, "max_in_flight_requests": 3}
    sink, rows = store.sink(**limits), some(GPS, 600, firmware_version="x" * 3000)
    proxy.rule("POST", "/_bulk", Delay(0.05))
    assert sink.write(GPS, rows).rows == 600
    assert most[0] == 3
    assert max(sizes) <= 64 << 10
    assert store.held(GPS) == oracle(rows)


def test_a_failure_of_one_request_leaves_none_on_its_way(store, proxy):
    sink = store.sink(batch_size=10, max_retries=0)
    proxy.rule("POST", OF_ROWS, Answer(503), first=2, times=1)
    slow = proxy.rule("POST", "/_bulk", Delay(0.1))
    with pytest.raises(DependencyFailed):
        sink.write(GPS, some(GPS, 100))
    seen = slow.seen
    time.sleep(0.3)
    assert slow.seen == seen
    assert sink.write(GPS, some(GPS, 100)).rows == 100


def test_a_sink_wants_to_be_told_where(store):
    with pytest.raises(BadSettings, match=r"sinks\.elasticsearch\.hosts is not set"):
        ElasticsearchSink(store.settings(hosts=()))


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
