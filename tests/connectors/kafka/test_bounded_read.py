"""Bounded reads: every message of a range once, exact, whatever lies between."""

import os
import threading

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from hypothesis import HealthCheck, given
from hypothesis import settings as tuned
from hypothesis import strategies as st

from connectors.errors import BadSettings, DependencyFailed
from connectors.kafka.bounded_read import (
    Limits,
    MessagePosition,
    OffsetsGone,
    read_positions,
    read_range,
)
from connectors.kafka.client import begin_offsets, end_offsets
from runners.stack.processes import free_port
from tests.support.kafka import (
    ChangedKafka,
    new_topic,
    send,
    send_with_header_name,
    settings_of,
    transaction,
    until,
)
from tests.support.servers import CACHE, running
from transforms.model.raw_messages import SCHEMA

pytestmark = pytest.mark.servers


def values(batches):
    return [value for batch in batches for value in batch.column("value").to_pylist()]


def offsets(batches):
    return [offset for batch in batches for offset in batch.column("offset").to_pylist()]


def test_a_message_is_read_exactly_with_its_place(kafka):
    topic = new_topic(kafka, partitions=2)
    raw = bytes(range(256))
    headers = [("a", b"\x00\xff"), ("a", b"again"), ("none", None), ("schlüssel", b"")]
    send(
        kafka,
        topic,
        [
            {"value": raw, "key": b"\xff\x00", "headers": headers, "timestamp": 1_700_000_000_123},
            {"value": None, "key": b"tombstone", "timestamp": 1_700_000_000_124},
            {"value": b"", "key": None, "timestamp": 1_700_000_000_125},
            {"value": b"x\r\n", "key": b"", "timestamp": 1_700_000_000_126},
        ],
        partition=1,
    )
    (batch,) = read_range(settings_of(kafka), topic, 1, 0, 4)
    assert batch.schema == SCHEMA
    batch.validate(full=True)
    rows = batch.to_pylist()
    assert [row["value"] for row in rows] == [raw, None, b"", b"x\r\n"]
    assert [row["key"] for row in rows] == [b"\xff\x00", b"tombstone", None, b""]
    assert [row["offset"] for row in rows] == [row["line"] for row in rows] == [0, 1, 2, 3]
    times = batch.column("timestamp").cast(pa.int64()).to_pylist()
    assert times == [1_700_000_000_123 + n for n in range(4)]
    assert rows[0]["headers"] == headers and rows[1]["headers"] is None
    constant = {
        (r["topic"], r["partition"], r["object"], r["arrival_hour"], r["size"]) for r in rows
    }
    assert constant == {(topic, 1, None, None, None)}
    assert not any(row["is_line"] for row in rows)


@pytest.mark.parametrize("before", [1, 200])
def test_a_header_name_that_is_no_text_costs_its_message_the_headers_and_nothing_else(
    kafka, before
):
    topic = new_topic(kafka)
    readable = {"value": b"fine", "headers": [("a", b"b")]}
    send(kafka, topic, [readable] * before)
    send_with_header_name(kafka, topic, b"\xff\xfe")
    send(kafka, topic, [readable])
    batches = list(read_range(settings_of(kafka), topic, 0, 0, before + 2))
    assert values(batches) == [*[b"fine"] * before, b"value", b"fine"]
    kept = [("a", b"b")]
    headers = [one for batch in batches for one in batch.column("headers").to_pylist()]
    assert headers == [*[kept] * before, None, kept]


def test_the_time_of_storing_is_the_timestamp_where_the_topic_says_so(kafka):
    topic = new_topic(kafka, message_timestamp_type="LogAppendTime")
    send(kafka, topic, [{"value": b"v", "timestamp": 1_000}])
    (batch,) = read_range(settings_of(kafka), topic, 0, 0, 1)
    assert batch.column("timestamp").cast(pa.int64())[0].as_py() > 1_700_000_000_000


@pytest.fixture(scope="module")
def thousand(kafka):
    topic = new_topic(kafka)
    send(kafka, topic, [(b"k", b"%d" % n) for n in range(1000)])
    return topic


@tuned(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    bounds=st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(sorted),
    at_once=st.integers(1, 400),
)
def test_a_range_holds_each_of_its_messages_once_in_order(kafka, thousand, bounds, at_once):
    start, end = bounds
    limits = Limits(records=at_once)
    batches = list(read_range(settings_of(kafka), thousand, 0, start, end, limits=limits))
    assert values(batches) == [b"%d" % n for n in range(start, end)]
    assert all(0 < len(batch) <= at_once for batch in batches)


@tuned(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(chosen=st.lists(st.integers(0, 999), max_size=30))
def test_places_are_read_once_each_in_order(kafka, thousand, chosen):
    places = [MessagePosition(thousand, 0, offset) for offset in chosen]
    assert offsets(read_positions(settings_of(kafka), places)) == sorted(set(chosen))


def test_places_of_several_partitions_come_by_topic_partition_and_offset(kafka, thousand):
    topic = new_topic(kafka, partitions=2)
    send(kafka, topic, [(None, b"a%d" % n) for n in range(3)], partition=0)
    send(kafka, topic, [(None, b"b%d" % n) for n in range(3)], partition=1)
    places = [
        MessagePosition(topic, 1, 2),
        MessagePosition(thousand, 0, 990),
        MessagePosition(topic, 0, 1),
        MessagePosition(topic, 1, 0),
    ]
    read = values(read_positions(settings_of(kafka), places))
    assert sorted(read) == [b"990", b"a1", b"b0", b"b2"]
    assert [value for value in read if value != b"990"] == [b"a1", b"b0", b"b2"]


def test_batches_hold_at_most_so_many_bytes_unless_one_message_is_larger(kafka):
    topic = new_topic(kafka, max_message_bytes=8 << 20)
    sizes = [10, 400_000, 3_000_000, 10, 10, 900_000, 200_000]
    send(
        kafka, topic, [(b"k", os.urandom(size)) for size in sizes], **{"message.max.bytes": 9 << 20}
    )
    limits = Limits(bytes=1_000_000)
    batches = list(read_range(settings_of(kafka), topic, 0, 0, len(sizes), limits=limits))
    assert (
        pc.binary_length(pa.chunked_array([b.column("value") for b in batches])).to_pylist()
        == sizes
    )
    for batch in batches:
        size = pc.sum(pc.binary_length(batch.column("value"))).as_py() + len(batch)
        assert size <= limits.bytes or len(batch) == 1


def test_aborted_messages_and_markers_are_passed_over(kafka):
    topic = new_topic(kafka)
    transaction(kafka, topic, [b"1", b"2"])
    transaction(kafka, topic, [b"aborted"], end="abort")
    transaction(kafka, topic, [b"3"])
    transaction(kafka, topic, [b"aborted too"], end="abort")
    settings = settings_of(kafka)
    end = until(lambda: (e := end_offsets(settings, [topic])[topic, 0]) == 9 and e)
    assert values(read_range(settings, topic, 0, 0, end)) == [b"1", b"2", b"3"]
    everything = values(read_range(settings, topic, 0, 0, end, "read_uncommitted"))
    assert everything == [b"1", b"2", b"aborted", b"3", b"aborted too"]
    assert values(read_range(settings, topic, 0, 3, 5)) == []
    assert values(read_range(settings, topic, 0, 2, 3)) == []


def test_a_range_beyond_an_open_transaction_waits_for_it(kafka):
    topic = new_topic(kafka)
    send(kafka, topic, [(None, b"before")])
    producer = transaction(kafka, topic, [b"open"], end="stay")
    settings = settings_of(kafka)
    with pytest.raises(DependencyFailed, match=r"offset 1 to 2 within 1 s.*transaction"):
        list(read_range(settings, topic, 0, 0, 2, limits=Limits(stall_s=1)))
    threading.Timer(0.5, producer.commit_transaction, [30]).start()
    assert values(read_range(settings, topic, 0, 0, 2)) == [b"before", b"open"]


def test_an_end_that_is_not_written_is_named(kafka, thousand):
    with pytest.raises(OffsetsGone, match=r"ends before offset 1000; 1000 to 1004 are not written"):
        list(read_range(settings_of(kafka), thousand, 0, 990, 1005))


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (5, 4)])
def test_a_range_that_cannot_be_meant_is_refused(kafka, thousand, start, end):
    with pytest.raises(BadSettings, match=f"offsets {start} to {end}"):
        list(read_range(settings_of(kafka), thousand, 0, start, end))


def test_nothing_is_asked_for_nothing(kafka, thousand):
    assert list(read_range(settings_of(kafka), thousand, 0, 5, 5)) == []
    assert list(read_positions(settings_of(kafka), [])) == []


def test_an_absent_topic_or_partition_is_a_failed_dependency(kafka, thousand):
    for topic, partition in (("not-there", 0), (thousand, 7)):
        with pytest.raises(DependencyFailed, match=f"{topic}-{partition}.*Unknown"):
            list(read_range(settings_of(kafka), topic, partition, 0, 1))


def test_deleted_offsets_are_named(kafka):
    topic = new_topic(kafka)
    send(kafka, topic, [(None, b"%d" % n) for n in range(10)])
    client = AdminClient({"bootstrap.servers": kafka.address})
    for deleted in client.delete_records([TopicPartition(topic, 0, 6)]).values():
        deleted.result()
    settings = settings_of(kafka)
    assert begin_offsets(settings, [topic]) == {(topic, 0): 6}
    with pytest.raises(OffsetsGone, match=r"begins at offset 6; 2 to 5 are deleted"):
        list(read_range(settings, topic, 0, 2, 8))
    with pytest.raises(OffsetsGone, match=r"begins at offset 6; 2 to 2 are deleted"):
        list(read_positions(settings, [MessagePosition(topic, 0, 2)]))
    assert values(read_range(settings, topic, 0, 6, 8)) == [b"6", b"7"]


@pytest.fixture(scope="module")
def compacted(kafka):
    topic = new_topic(
        kafka,
        cleanup_policy="compact",
        segment_ms=100,
        min_cleanable_dirty_ratio=0.01,
        max_compaction_lag_ms=100,
    )
    settings = settings_of(kafka)
    send(kafka, topic, [(b"k%d" % (n % 3), b"%d" % n) for n in range(30)])

    def is_compacted():
        send(kafka, topic, [(b"last", b"")])  # a closed segment is what can be compacted
        kept = offsets(read_range(settings, topic, 0, 0, 30))
        return kept if len(kept) < 30 else None

    return topic, until(is_compacted, seconds=120)


def test_compacted_gaps_are_passed_over_also_at_the_end_of_a_range(kafka, compacted):
    topic, kept = compacted
    settings = settings_of(kafka)
    assert kept == [27, 28, 29]
    assert offsets(read_range(settings, topic, 0, 0, 29)) == [27, 28]
    assert offsets(read_range(settings, topic, 0, 3, 20)) == []


def test_a_place_that_was_compacted_away_is_named(kafka, compacted):
    topic, _ = compacted
    with pytest.raises(OffsetsGone, match="holds no message at 3, 4:"):
        list(read_positions(settings_of(kafka), [MessagePosition(topic, 0, n) for n in (3, 4, 28)]))


def test_a_read_goes_on_after_its_broker_was_killed_and_fails_when_it_stays_away(servers):
    with running(ChangedKafka(servers / "killed", CACHE, port=free_port(2))) as server:
        topic = new_topic(server)
        send(server, topic, [(None, os.urandom(20_000)) for _ in range(5000)])
        settings = settings_of(server, **{"reconnect_backoff_max_ms": "500"})
        reading = read_range(settings, topic, 0, 0, 5000, limits=Limits(records=50, stall_s=90))
        got = offsets([next(reading)])
        server.kill()
        server.start()
        got += offsets(reading)
        assert got == list(range(5000))
        reading = read_range(settings, topic, 0, 0, 5000, limits=Limits(records=50, stall_s=3))
        next(reading)
        server.kill()
        with pytest.raises(DependencyFailed, match=rf"{server.address}.*{topic}-0 from offset"):
            list(reading)
