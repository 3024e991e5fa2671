"""How far a group is behind on a real broker."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from connectors.kafka.client import client_properties, consumer
from connectors.kafka.lag import Waiting, committed, first_timestamps, spans, waiting
from tests.support import topics

pytestmark = pytest.mark.servers

TOPIC = "message-log"
GROUP = "odograph-lagging"
PLACES = [(TOPIC, 0), (TOPIC, 1)]
EARLY, LATE = 1_760_000_000_000, 1_760_000_600_000


@pytest.fixture
def topic(kafka):
    """A fresh topic of two partitions."""
    return topics.fresh(kafka, 2, (TOPIC,))


def send(settings, *records, **properties):
    """Records (partition, timestamp ms), in one transaction where properties say so."""
    producer = Producer({**client_properties(settings), **properties})
    if properties:
        producer.init_transactions(30)
        producer.begin_transaction()
    for partition, stamp in records:
        producer.produce(TOPIC, b"{}", b"key", partition, timestamp=stamp)
    if properties:
        producer.commit_transaction(30)
    assert producer.flush(30) == 0


def commit(settings, **offsets):
    """Commit offsets of partitions (p0=…) for the group."""
    reader = Consumer({**client_properties(settings), "group.id": GROUP})
    places = [TopicPartition(TOPIC, int(name[1:]), offset) for name, offset in offsets.items()]
    reader.commit(offsets=places, asynchronous=False)
    reader.close()


def behind(settings, done):
    return waiting(settings, done, spans(settings, [TOPIC]))


def lag(settings):
    return behind(settings, committed(settings, GROUP, PLACES))


def test_what_is_not_committed_waits_since_its_oldest_record(topic):
    send(topic, (0, EARLY), (0, LATE), (1, LATE))
    commit(topic, p0=1, p1=0)
    assert lag(topic) == Waiting(2, LATE)
    commit(topic, p0=0, p1=1)
    assert lag(topic) == Waiting(2, EARLY)


def test_nothing_waits_once_all_is_committed(topic):
    send(topic, (0, EARLY), (1, LATE))
    commit(topic, p0=1, p1=1)
    assert lag(topic) == Waiting(0, None)


def test_a_partition_never_committed_waits_as_a_whole(topic):
    send(topic, (0, EARLY), (1, LATE), (1, LATE))
    assert behind(topic, {}) == Waiting(3, EARLY)
    assert behind(topic, {(TOPIC, 0): 1}) == Waiting(2, LATE)


def test_the_mark_that_ends_a_transaction_is_nothing_that_waits(topic):
    send(topic, (0, EARLY), **{"transactional.id": "lag"})
    assert behind(topic, {(TOPIC, 0): 1}) == Waiting(0, None)
    assert behind(topic, {(TOPIC, 0): 0}).since_ms == EARLY


def test_what_its_topic_no_longer_holds_does_not_wait(topic, kafka):
    send(topic, (0, EARLY), (0, LATE), (1, LATE))
    topics.delete_before(kafka, TOPIC, 0, 1)
    assert behind(topic, {(TOPIC, 0): 0, (TOPIC, 1): 1}) == Waiting(1, LATE)


def test_an_empty_topic_has_no_first_record(topic):
    assert first_timestamps(topic, {(TOPIC, 0): 0}) == {}
    assert first_timestamps(topic, {}) == {}


def test_a_group_that_never_committed_has_no_offsets(topic):
    assert committed(topic, "odograph-nobody", PLACES) == {}


class HandedOver:
    """A consumer whose group is on its way to another broker when it is asked first."""

    def __init__(self, reader) -> None:
        self._reader, self._moving, self.close = reader, 2, reader.close

    def committed(self, *asked):
        self._moving -= 1
        if self._moving >= 0:
            raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))
        return self._reader.committed(*asked)


def test_a_group_that_another_broker_takes_over_is_asked_about_again(topic, monkeypatch):
    def handed_over(*told):
        reader, troubles = consumer(*told)
        return HandedOver(reader), troubles

    send(topic, (0, EARLY))
    commit(topic, p0=1)
    monkeypatch.setattr("connectors.kafka.lag.consumer", handed_over)
    assert committed(topic, GROUP, PLACES) == {(TOPIC, 0): 1}
