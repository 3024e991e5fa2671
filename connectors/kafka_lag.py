"""How far a consumer group is behind: what it has not committed yet, and since when that waits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from connectors.files import DependencyFailed
from connectors.kafka import (
    READ_COMMITTED,
    REQUEST_S,
    Partition,
    admin,
    asking,
    begin_offsets,
    bootstrap,
    consumer,
    end_offsets,
    failure,
)
from connectors.settings import KafkaSettings

FIRST_S = 30.0
PAUSE_S = 0.2
MOVING = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)
"""The broker that knows a group's offsets is not ready, or is another one by now."""


@dataclass(frozen=True)
class Waiting:
    """What a group has not committed: `offsets` counts them, markers of transactions too, and is 0
    where no record stands there; `since_ms` is the oldest timestamp of the first records that wait
    in each partition (epoch ms), None where none does."""

    offsets: int
    since_ms: int | None


def committed(settings: KafkaSettings, group: str) -> dict[Partition, int]:
    """The offsets a group will go on from; nothing of partitions it never committed. Raises
    DependencyFailed."""
    client, troubles = admin(settings)
    deadline = time.monotonic() + REQUEST_S
    with asking(settings, f"look up offsets of the group {group}", troubles):
        while True:
            asked = client.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=REQUEST_S
            )
            try:
                found = asked[group].result().topic_partitions
                break
            except KafkaException as error:
                if error.args[0].code() not in MOVING or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE_S)
    return {(at.topic, at.partition): at.offset for at in found if at.offset >= 0}


def waiting(
    settings: KafkaSettings, done: Mapping[Partition, int], topics: Sequence[str]
) -> Waiting:
    """What waits on topics for a group that has committed `done`; a partition it never committed
    waits as a whole. Raises DependencyFailed."""
    begins, ends = begin_offsets(settings, topics), end_offsets(settings, topics)
    starts = {place: max(done.get(place, 0), begin) for place, begin in begins.items()}
    behind = {place: start for place, start in starts.items() if start < ends[place]}
    stamps = first_timestamps(settings, behind)
    return Waiting(
        sum(ends[place] - starts[place] for place in stamps), min(stamps.values(), default=None)
    )


def first_timestamps(
    settings: KafkaSettings, starts: Mapping[Partition, int]
) -> dict[Partition, int]:
    """Timestamp (epoch ms) of the first committed record at or after an offset of each partition;
    nothing of partitions that have none. Raises DependencyFailed."""
    if not starts:
        return {}
    reader, troubles = consumer(settings, READ_COMMITTED)
    found: dict[Partition, int] = {}
    left = set(starts)
    deadline = time.monotonic() + FIRST_S
    try:
        reader.assign([TopicPartition(*place, offset) for place, offset in starts.items()])
        while left:
            message = reader.poll(0.5)
            if message is None:
                if time.monotonic() > deadline:
                    where = ", ".join(f"{topic}-{number}" for topic, number in sorted(left)[:3])
                    raise DependencyFailed(
                        f"Kafka at {bootstrap(settings)} gave no record of {where}"
                        f" within {FIRST_S:g} s: {troubles.why() or 'no reason told'}"
                    )
                continue
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise DependencyFailed(failure(settings, "read a record", error, troubles))
            place = (str(message.topic()), int(message.partition() or 0))
            if error is None and place in left:
                found[place] = message.timestamp()[1]
            left.discard(place)
            reader.pause([TopicPartition(*place)])
    finally:
        reader.close()
    return found
