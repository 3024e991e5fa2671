"""The live archive holds exactly what the device topics hold, whatever dies meanwhile."""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer

from connectors.archive.parquet import SCHEMA
from connectors.kafka.client import client_properties, end_offsets
from connectors.storage.folder import folder
from pipelines.live.spec import DEVICE_TOPICS
from runners.cli.status import statuses
from tests.cluster.fleet import Fleet, kill_workers, odograph, until
from tests.cluster.load import terminals
from tests.cluster.messages import bindings
from tests.cluster.test_faults import TERMINALS, Feed
from tests.support.archives import read_progress
from tests.support.topics import records

pytestmark = pytest.mark.cluster

PARTITIONS, RATE, SECONDS = 2, 5_000, 6


@pytest.fixture
def bucket(servers, monkeypatch):
    """An empty bucket, and this process's way to it."""
    store, name = servers["s3"], f"archive-{secrets.token_hex(4)}"
    for variable, value in store.environment.items():
        monkeypatch.setenv(variable, value)
    store.make_bucket(name)
    return f"s3://{name}/exact"


@pytest.fixture
def fleet(servers, tmp_path, bucket):
    """Fresh topics and an archive that is written every three seconds."""
    changes = {
        "topics": {"partitions": PARTITIONS},
        "sinks": {"archive": {"folder": bucket, "rotate_schedule_interval_ms": 3000}},
    }
    with Fleet.fresh(servers, tmp_path, **changes) as one:
        one.bindings.write_text(bindings(terminals(TERMINALS)))
        yield one


def archived(place):
    """All records of the archive by topic, partition and offset."""
    rows = []
    for name, _ in place.child("topics").names():
        data = place.child("topics").read(name)
        rows += pq.read_table(pa.BufferReader(data)).cast(SCHEMA).to_pylist()
    return sorted(rows, key=lambda row: (row["topic"], row["partition"], row["offset"]))


def ends(place, config):
    """How far each partition with records is archived, and how far it goes."""
    goes = {key: end for key, end in end_offsets(config.kafka, DEVICE_TOPICS).items() if end}
    noted = {key: read_progress(place, *key) for key in goes}
    return {key: one and one.end for key, one in noted.items()}, goes


@contextmanager
def stranger(fleet, group):
    """Another consumer that joined the group of a sink, and was given its partitions."""
    own = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    other = Consumer({**client_properties(fleet.config.kafka), **own})
    other.subscribe(list(DEVICE_TOPICS))

    def joined():
        other.poll(0.1)
        return other.assignment()

    try:
        until(joined, "a rebalance")
        yield
    finally:
        other.close()


def lag(fleet):
    """Records that the archive's job has not committed."""
    (one,) = [one for one in statuses(fleet.config, fleet.cluster) if one.job == "sink-archive"]
    return one.behind.offsets


def all_is_archived(fleet, bucket):
    """Wait until the archive goes as far as the topics; it is as they are."""
    place = folder(bucket, fleet.config.s3.settings())
    until(lambda: (lambda noted, goes: noted == goes)(*ends(place, fleet.config)), "all archived")
    expected = [{name: row[name] for name in SCHEMA.names} for row in records(fleet.config.kafka)]
    assert archived(place) == expected and len(expected) == RATE * SECONDS


def test_rebalances_of_its_group_take_nothing_from_a_sink(fleet, bucket):
    start = ("submit", "sink", "archive", "--config", fleet.settings, "--start-at", "earliest")
    odograph(*start, "--parallelism", 2)
    feed = Feed(fleet, RATE, SECONDS)
    for second in (1, 3):
        feed.at(second)
        with stranger(fleet, "odograph-sink-archive"):
            time.sleep(1)
    feed.ends()
    all_is_archived(fleet, bucket)
    until(lambda: lag(fleet) == 0, "all is committed to the group")


def test_killed_task_managers_and_workers_leave_neither_gap_nor_copy(fleet, bucket):
    flink = fleet.servers["flink"]
    start = ("submit", "sink", "archive", "--config", fleet.settings, "--start-at", "earliest")
    odograph(*start, "--parallelism", 2)
    feed = Feed(fleet, RATE, SECONDS)
    feed.at(3)
    flink.task_manager(1).kill()
    flink.start_task_manager(1)
    until(lambda: kill_workers(flink), "Python workers are back, and killed again")
    feed.ends()
    all_is_archived(fleet, bucket)
