"""The same uploads through Kafka and Flink, and through a batch, come to the same facts."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas import MESSAGE_TYPES
from tests.cluster import oracle
from tests.cluster.fleet import until

pytestmark = pytest.mark.cluster

VEHICLE_TOPICS = [f"vehicle-{name}" for name in MESSAGE_TYPES]


NEVER_LATE = pytest.mark.settings(stream={"lateness_hours": 1_000_000})
"""Of long ago: uploads without a receive time take that of the broker."""


EVENING = "2024-01-15T23:30+09:00"
"""Two hours later midnight is over in the fleet's zone, ten hours later in UTC too."""


@NEVER_LATE
@pytest.mark.parametrize("hours", [2, *(pytest.param(n, marks=pytest.mark.long) for n in (10, 24))])
def test_hours_with_every_misbehaviour_live_equal_the_batch(fleet, tmp_path, hours):
    words = ("--vehicles", 46, "--hours", hours, "--start", EVENING, "--misbehave", "all")
    fleet.simulate(tmp_path / "simulated", *words)
    batch = fleet.batch()
    fleet.submit("convert")
    fleet.submit("aggregate", "--parallelism", 2)
    fleet.reaches_the_minutes_of(batch)
    dead = {row["dead_letter_id"]: row for row in batch.facts.dead.to_pylist()}
    good = fleet.sent() - len(dead)
    until(lambda: fleet.committed(VEHICLE_TOPICS) >= good, f"{good} uploads on vehicle topics")

    assert _letters(fleet).keys() == {row["raw_value"] + _place(row) for row in dead.values()}
    assert fleet.committed(VEHICLE_TOPICS) == good
    assert _live_ids(fleet) == _batch_ids(batch)


def _place(row) -> bytes:
    return f"|{row['source_topic']}|{row['source_partition']}".encode()


def _letters(fleet) -> dict[bytes, dict]:
    rows = oracle.decoded(fleet.config.kafka, "dead-letters", "dead_letter")
    return {row["raw_value"] + _place(row): row for _, row in rows}


def _live_ids(fleet) -> set[str]:
    ids = Counter()
    for name in MESSAGE_TYPES:
        ids += oracle.message_ids(fleet.config.kafka, name)
    return set(ids)


def _batch_ids(batch) -> set[str]:
    tables = [part for parts in batch.facts.telemetry.values() for part in parts]
    return {one for part in tables for one in part.column("message_id").unique().to_pylist()}
