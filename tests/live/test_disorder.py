"""Clocks, duplicates, lateness, idle partitions: minutes come out as if all had been in order."""

from __future__ import annotations

import time

import pytest

from connectors.kafka import end_offsets
from tests.live import oracle
from tests.live.fleet import until
from tests.live.messages import START_MS, bindings, log, send

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
CLOCKS = {
    "AHEAD": DAY,
    "BEHIND": -DAY + 5 * MINUTE,
    "EPOCH": -START_MS,
    "FAR": 2_334_000_000_000,
}


@pytest.fixture
def day(fleet):
    """Terminals with clocks of every kind beside a good one, duplicates and late uploads."""
    fleet.bindings.write_text(bindings(["GOOD", *CLOCKS]))
    for number, (name, ahead) in enumerate({"GOOD": 0, **CLOCKS}.items()):
        uploads = []
        for n in range(30):
            received = START_MS + n * MINUTE
            uploads.append((received, log(name, n, received + ahead - 900, received)))
        uploads.append((uploads[3][0], uploads[3][1]))
        send(
            fleet.config.kafka,
            "message-log",
            [(name.encode(), value, when, number % 2) for when, value in uploads],
        )
    return fleet


def test_clocks_a_day_off_or_in_another_century_leave_minutes_bounded_and_nobody_waits(day):
    day.submit("aggregate", "--parallelism", 2)
    day.reaches_the_minutes_of(day.batch())
    minutes = [minute for _, minute in oracle.live_minutes(day.config.kafka)]
    assert min(minutes) >= START_MS - DAY
    assert max(minutes) <= START_MS + HOUR


def test_idle_partitions_and_empty_topics_hold_nothing_back(day):
    ends = end_offsets(day.config.kafka, ["message-log", "message-gps"])
    assert 0 in {end for (topic, _), end in ends.items() if topic == "message-log"}
    assert {end for (topic, _), end in ends.items() if topic == "message-gps"} == {0}
    day.submit("aggregate")
    until(lambda: oracle.live_minutes(day.config.kafka), "minutes")


def test_duplicates_count_once_and_an_upload_ten_hours_late_corrects_its_minute(day):
    day.submit("aggregate")
    first = day.batch()
    day.reaches_the_minutes_of(first)
    again = log("GOOD", 5, START_MS + 5 * MINUTE - 900, START_MS + 5 * MINUTE)
    late = log("GOOD", 500, START_MS + 7 * MINUTE - 30_000, START_MS + 10 * HOUR, spd=90)
    after = START_MS + 10 * HOUR
    send(day.config.kafka, "message-log", [(b"GOOD", again, after, 1), (b"GOOD", late, after, 0)])
    corrected = day.batch()
    day.reaches_the_minutes_of(corrected)
    changed = [key for key, row in corrected.minutes().items() if first.minutes().get(key) != row]
    assert len(changed) == 1
    assert corrected.facts.duplicate == first.facts.duplicate + 1


def test_an_upload_later_than_allowed_goes_to_the_late_topic_and_changes_no_minute(day):
    day.submit("aggregate")
    before = day.batch()
    day.reaches_the_minutes_of(before)
    late = log("GOOD", 700, START_MS + 7 * MINUTE - 30_000, START_MS + 25 * HOUR, spd=90)
    send(day.config.kafka, "message-log", [(b"GOOD", late, START_MS + 25 * HOUR, 0)])
    until(lambda: day.committed(["late"]) == 1, "the late upload")
    (record,) = [row for b in oracle.records(day.config.kafka, ["late"]) for row in b.to_pylist()]
    assert record["value"] == late
    assert dict(record["headers"])["odograph.why"] == b"late"
    time.sleep(2 * day.config.flink.revise_after_s)
    assert not oracle.differences(oracle.live_minutes(day.config.kafka), before.minutes())
