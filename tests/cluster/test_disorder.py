"""Clocks, duplicates, lateness, idle partitions: minutes come out as if all had been in order."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from connectors.kafka.client import end_offsets
from tests.cluster import oracle
from tests.cluster.fleet import Fleet, until
from tests.cluster.messages import START_MS, bindings, log, send

pytestmark = pytest.mark.cluster

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
CLOCKS = {
    "AHEAD": DAY,
    "BEHIND": -DAY + 5 * MINUTE,
    "EPOCH": -START_MS,
    "FAR": 2_334_000_000_000,
}
TOO_LATE = log("LATE", 700, START_MS + 7 * MINUTE - 30_000, START_MS + 25 * HOUR, spd=90)


@dataclass(frozen=True)
class Day:
    """Terminals with clocks of every kind beside good ones, then uploads that come again or late:
    what a batch over the uploads before those and over all of them comes to, and the live minutes
    of both times."""

    fleet: Fleet
    ends: dict[tuple[str, int], int]
    before: oracle.Batch
    after: oracle.Batch
    live_before: dict
    live_after: dict


@pytest.fixture(scope="module")
def day(servers, tmp_path_factory):
    with Fleet.fresh(servers, tmp_path_factory.mktemp("day")) as fleet:
        fleet.bindings.write_text(bindings(["GOOD", "LATE", *CLOCKS]))
        ahead = {"GOOD": 0, "LATE": 0, **CLOCKS}
        for number, name in enumerate(ahead):
            send(fleet.config.kafka, "message-log", of_half_an_hour(name, ahead[name], number % 2))
        ends = end_offsets(fleet.config.kafka, ["message-log", "message-gps"])
        fleet.submit("aggregate", "--parallelism", 2)
        before = fleet.batch()
        fleet.reaches_the_minutes_of(before)
        live_before = oracle.live_minutes(fleet.config.kafka)
        after = again_and_late(fleet, before)
        yield Day(fleet, ends, before, after, live_before, oracle.live_minutes(fleet.config.kafka))


def of_half_an_hour(name, ahead_ms, partition):
    uploads = []
    for n in range(30):
        received = START_MS + n * MINUTE
        value = log(name, n, received + ahead_ms - 900, received)
        uploads.append((name.encode(), value, received, partition))
    return [*uploads, uploads[3]]


def again_and_late(fleet, before):
    """Send an upload again, one ten hours late and one too late; a batch over all of them, once
    the minutes of the terminals that are not too late equal it."""
    received = START_MS + 10 * HOUR
    again = log("GOOD", 5, START_MS + 5 * MINUTE - 900, START_MS + 5 * MINUTE)
    late = log("GOOD", 500, START_MS + 7 * MINUTE - 30_000, received, spd=90)
    uploads = [(b"GOOD", again, received, 1), (b"GOOD", late, received, 0)]
    uploads.append((b"LATE", TOO_LATE, START_MS + 25 * HOUR, 0))
    send(fleet.config.kafka, "message-log", uploads)
    after = fleet.batch()
    expected = {key: row for key, row in after.minutes().items() if key[0] != "CAR-LATE"}

    def equal():
        live = oracle.live_minutes(fleet.config.kafka)
        return {key: row for key, row in live.items() if key[0] != "CAR-LATE"} == expected

    until(equal, "the minutes are corrected")
    until(lambda: fleet.committed(["late"]) == 1, "the late upload")
    time.sleep(2 * fleet.config.stream.revise_after_s)
    return after


def test_clocks_a_day_off_or_in_another_century_leave_minutes_bounded_and_nobody_waits(day):
    minutes = [minute for _, minute in day.live_before]
    assert min(minutes) >= START_MS - DAY
    assert max(minutes) <= START_MS + HOUR
    assert {vehicle for vehicle, _ in day.live_before} >= {f"CAR-{name}" for name in CLOCKS}


def test_idle_partitions_and_empty_topics_hold_nothing_back(day):
    assert 0 in {end for (topic, _), end in day.ends.items() if topic == "message-log"}
    assert {end for (topic, _), end in day.ends.items() if topic == "message-gps"} == {0}
    assert not oracle.differences(day.live_before, day.before.minutes())


def test_duplicates_count_once_and_an_upload_ten_hours_late_corrects_its_minute(day):
    good = {key: row for key, row in day.live_after.items() if key[0] == "CAR-GOOD"}
    changed = [key for key, row in good.items() if day.live_before.get(key) != row]
    assert changed == [("CAR-GOOD", START_MS + 6 * MINUTE)]
    assert good[changed[0]]["n_uploads"] == 2
    assert day.after.facts.duplicate == day.before.facts.duplicate + 1


def test_an_upload_later_than_allowed_goes_to_the_late_topic_and_changes_no_minute(day):
    batches = oracle.records(day.fleet.config.kafka, ["late"])
    (record,) = [row for batch in batches for row in batch.to_pylist()]
    assert record["value"] == TOO_LATE
    assert dict(record["headers"])["odograph.why"] == b"late"
    minutes = [key for key in day.live_before if key[0] == "CAR-LATE"]
    assert len(minutes) == 30
    for key in minutes:
        assert day.live_after[key] == day.live_before[key]
