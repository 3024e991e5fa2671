"""Fresh device topics on a real broker, and what they hold."""

import time

from confluent_kafka.admin import AdminClient, NewTopic

from connectors.kafka.bounded_read import read_range
from connectors.kafka.client import begin_offsets, end_offsets
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import DEVICE_TOPICS

CONFIG = {
    "retention.ms": "-1",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "max.message.bytes": str(8 << 20),
}
"""Simulated days lie in the past; their time stamps shall stay, and so shall their records."""


def settings_of(kafka) -> KafkaSettings:
    """How to speak to a server of the stack."""
    return KafkaSettings(bootstrap=kafka.address)


def gone(kafka, topics=DEVICE_TOPICS) -> None:
    """Delete topics and wait until they are gone."""
    client = AdminClient({"bootstrap.servers": kafka.address})
    there = [name for name in topics if name in client.list_topics(timeout=30).topics]
    for done in client.delete_topics(there).values() if there else ():
        done.result()
    _until(lambda: not set(topics) & set(client.list_topics(timeout=30).topics))


def fresh(kafka, partitions=4, topics=DEVICE_TOPICS, **config) -> KafkaSettings:
    """Empty topics, whatever was there before, and how to reach them."""
    gone(kafka, topics)
    client = AdminClient({"bootstrap.servers": kafka.address})
    named = CONFIG | {name.replace("_", "."): str(value) for name, value in config.items()}
    new = [NewTopic(name, partitions, 1, config=named) for name in topics]
    for done in client.create_topics(new).values():
        done.result()
    _until(lambda: set(topics) <= set(client.list_topics(timeout=30).topics))
    return settings_of(kafka)


def records(settings: KafkaSettings, topics=DEVICE_TOPICS) -> list[dict]:
    """All that the topics hold, by topic, partition and offset."""
    first, last = begin_offsets(settings, topics), end_offsets(settings, topics)
    return [
        row
        for topic, partition in sorted(first)
        for batch in read_range(
            settings, topic, partition, first[topic, partition], last[topic, partition]
        )
        for row in batch.to_pylist()
    ]


def delete_before(kafka, topic: str, partition: int, offset: int) -> None:
    """What retention does: the partition begins at `offset`."""
    from confluent_kafka import TopicPartition

    client = AdminClient({"bootstrap.servers": kafka.address})
    for done in client.delete_records([TopicPartition(topic, partition, offset)]).values():
        done.result()


def _until(reached) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline, "topics did not change within a minute"
        time.sleep(0.1)
