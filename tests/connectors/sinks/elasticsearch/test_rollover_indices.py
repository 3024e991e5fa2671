"""Generations are begun once, and daily indices become them and do not come back."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from threading import Barrier

import pytest

from connectors.errors import BadSettings, DependencyFailed
from connectors.sinks.elasticsearch.client import connect
from connectors.sinks.elasticsearch.prune import delete, old
from connectors.sinks.elasticsearch.templates import template
from connectors.sinks.tables import MINUTES, TABLES
from runners.stack.faults.rules import Answer, Rewrite
from tests.connectors.sinks.elasticsearch.rows import GPS, LOG, oracle, row, some, table_of

pytestmark = pytest.mark.servers

FIRST, SECOND = "telemetry-gps-000001", "telemetry-gps-000002"
DAY, AT_ONCE = 86_400, 6


def behind(store, alias="telemetry-gps"):
    """Indices behind the alias, and which of them takes new rows."""
    found = store.ask("GET", f"{alias}/_alias/{store.prefix}{alias}")
    return {
        name.removeprefix(store.prefix): one["aliases"][store.prefix + alias].get("is_write_index")
        for name, one in found.items()
    }


def test_the_first_generation_stands_behind_the_alias_and_has_our_mapping(store):
    sink = store.sink(index_by="rollover")
    sink.prepare(list(TABLES.values()))
    assert behind(store) == {FIRST: True}
    assert behind(store, "vehicle-minutes") == {"vehicle-minutes-000001": True}
    assert store.roll_over(MINUTES) == "vehicle-minutes-000002"
    for name in (FIRST, "vehicle-minutes-000002"):
        index = store.ask("GET", name)[store.prefix + name]
        assert index["settings"]["index"]["codec"] == "best_compression"
        assert index["mappings"]["dynamic"] == "false"


def test_preparing_again_changes_nothing(store):
    sink = store.sink(index_by="rollover")
    store.roll_over(GPS)
    store.roll_over(GPS)
    before = behind(store)
    sink.prepare([GPS])
    assert behind(store) == before


def test_those_who_prepare_at_once_make_one_generation(store):
    barrier = Barrier(AT_ONCE)

    def prepare(_):
        barrier.wait()
        return store.sink(index_by="rollover")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        sinks = list(pool.map(prepare, range(AT_ONCE)))
    assert behind(store) == {FIRST: True}
    rows = some(GPS, AT_ONCE)
    for place, sink in enumerate(sinks):
        sink.write(GPS, rows.slice(place, 1))
    assert store.held(GPS) == oracle(rows)


def test_who_comes_later_to_a_generation_that_was_just_made_takes_it(store, proxy):
    def sooner(body):
        store.ask("PUT", FIRST, {"aliases": {f"{store.prefix}telemetry-gps": WRITING}})
        return body

    late = proxy.rule("GET", "gps-.*features=aliases", Rewrite(sooner), times=1)
    store.sink(index_by="rollover")
    assert late.struck == 1
    assert behind(store) == {FIRST: True}


WRITING = {"is_write_index": True}


def test_a_newest_generation_that_was_deleted_is_followed_by_one_of_its_own(store):
    sink = store.sink(index_by="rollover")
    store.roll_over(GPS)
    store.ask("DELETE", SECOND)
    sink.prepare([GPS])
    assert behind(store) == {FIRST: False, SECOND: True}


def test_a_generation_outside_the_alias_is_told(store):
    store.ask("PUT", FIRST)
    with pytest.raises(DependencyFailed, match=rf"no write index, though.*{FIRST}.*_aliases"):
        store.sink(index_by="rollover", max_retries=1)


def test_an_alias_that_is_an_index_is_told(store):
    store.ask("PUT", "telemetry-gps")
    with pytest.raises(DependencyFailed, match=r"PUT /.*000001.*alias.*must be free"):
        store.sink(index_by="rollover", max_retries=1)


def test_days_that_have_an_index_keep_their_rows_there(store):
    first = some(GPS, 10)
    store.sink().write(GPS, first)
    sink = store.sink(index_by="rollover")
    assert behind(store) == {FIRST: True, "telemetry-gps-2026.03.10": None}
    store.roll_over(GPS)
    gone = [row(GPS, "m3", seconds=3, revision=2, gone=True), row(GPS, "new", seconds=5)]
    other = [row(GPS, "m4", seconds=DAY), row(GPS, "m5", seconds=5, revision=3)]
    second = table_of(GPS, [*gone, *other])
    for rows in (second, first, second):
        assert sink.write(GPS, rows).retries == 0
    assert store.held(GPS) == oracle(first, second)
    assert {index for index, _ in store.documents("telemetry-gps-*")} == {
        "telemetry-gps-2026.03.10",
        SECOND,
    }


def test_rows_of_a_day_that_was_pruned_meanwhile_go_to_the_newest_generation(store, proxy):
    rows = some(GPS, 10)
    store.sink().write(GPS, rows)
    sink = store.sink(index_by="rollover")
    deletion = table_of(GPS, [row(GPS, "m3", seconds=3, revision=2, gone=True)])
    both = table_of(GPS, [*rows.to_pylist(), *deletion.to_pylist()])

    def prune(body):
        store.ask("DELETE", "telemetry-gps-2026.03.10")
        return body

    proxy.rule("GET", "features=aliases", Rewrite(prune), times=1)
    sink.write(GPS, both)
    sink.write(GPS, both)
    assert store.held(GPS) == oracle(both)
    assert {index for index, _ in store.documents("telemetry-gps-*")} == {FIRST}


def test_prune_takes_days_that_are_left_and_no_generation(store):
    store.sink().write(GPS, some(GPS, 3))
    store.sink(index_by="rollover")
    store.roll_over(GPS)
    connection = connect(store.settings(index_by="rollover"))
    names = list(old(connection, list(TABLES.values()), 2, date(2030, 1, 1)))
    assert names == [f"{store.prefix}telemetry-gps-2026.03.10"]
    delete(connection, names)
    assert behind(store) == {FIRST: False, SECOND: True}


def test_daily_indices_are_refused_where_there_are_generations(store):
    store.sink(index_by="rollover")
    store.roll_over(GPS)
    with pytest.raises(BadSettings, match=rf"index_by day.*{store.prefix}{SECOND}.*index_prefix"):
        store.sink()
    for name in (FIRST, SECOND, "telemetry-log-000001"):
        store.ask("DELETE", name)
    rows = some(GPS, 3)
    store.sink().write(GPS, rows)
    assert store.held(GPS) == oracle(rows)
    assert behind(store) == {"telemetry-gps-2026.03.10": None}


def test_a_job_that_still_writes_by_the_day_makes_no_index_of_a_new_one(store):
    sink = store.sink(max_retries=1)
    sink.write(GPS, some(GPS, 1))
    store.sink(index_by="rollover")
    assert sink.write(GPS, some(GPS, 2)).rows == 2
    with pytest.raises(DependencyFailed, match=r"03\.11: HTTP 404 index_not_found.*forbids"):
        sink.write(GPS, table_of(GPS, [row(GPS, "a", seconds=DAY)]))


def test_a_policy_is_told_which_alias_to_roll_over(store):
    made = template(store.settings(index_by="rollover", lifecycle_policy="big"), GPS)
    index = made["template"]["settings"]["index"]
    assert index["lifecycle.name"] == "big"
    assert index["lifecycle.rollover_alias"] == f"{store.prefix}telemetry-gps"
    plain = template(store.settings(index_by="rollover"), GPS)["template"]["settings"]["index"]
    assert not [name for name in plain if name.startswith("lifecycle")]


def test_a_policy_needs_ilm_for_generations_too(store):
    with pytest.raises(BadSettings, match=r"lifecycle_policy big: .*has no ILM"):
        store.sink(index_by="rollover", lifecycle_policy="big")


def test_beginning_is_patient(store, proxy):
    proxy.rule("GET", "features=aliases", Answer(503), times=1)
    proxy.rule("PUT", "/.*000001", Answer(503), times=1)
    store.sink(index_by="rollover").prepare([GPS, LOG])
    assert behind(store) == {FIRST: True}
