"""How far a consumer group is behind: records it has not committed, and how old they are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from connectors.errors import DependencyFailed
from connectors.kafka.client import (
    READ_COMMITTED,
    REQUEST_S,
    Partition,
    asking,
    begin_offsets,
    bootstrap,
    consumer,
    end_offsets,
    failure,
)
from connectors.kafka.settings import KafkaSettings

FIRST_S = 30.0
_MOVING = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
"""Answers of brokers while another broker takes the group over."""


@dataclass(frozen=True)
class Waiting:
    """What a group has not committed. `offsets` is how many offsets that are, markers of
    transactions included, and 0 in a partition without a record among them. `since_ms` is the
    oldest timestamp of the first such records of all partitions (epoch ms), None without any."""

    offsets: int
    since_ms: int | None


def committed(
    settings: KafkaSettings, group: str, partitions: Iterable[Partition]
) -> dict[Partition, int]:
    """The offset of each partition from which a group will read on; partitions it never committed
    are absent. Raises DependencyFailed."""
    named = {"properties": {**settings.properties, "group.id": group}}
    reader, troubles = consumer(settings.model_copy(update=named), READ_COMMITTED)
    try:
        with asking(settings, f"look up offsets of the group {group}", troubles):
            answered = _committed(reader, [TopicPartition(*partition) for partition in partitions])
    finally:
        reader.close()
    for at in answered:
        if at.error is not None:
            what = f"look up the offset of {at.topic}-{at.partition} of the group {group}"
            raise DependencyFailed(failure(settings, what, at.error, troubles))
    return {(at.topic, at.partition): at.offset for at in answered if at.offset >= 0}


def _moves(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in _MOVING


@retry(
    retry=retry_if_exception(_moves),
    wait=wait_random(0.1, 0.5),
    stop=stop_after_delay(REQUEST_S),
    reraise=True,
)
def _committed(reader: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    return reader.committed(partitions, REQUEST_S)


def spans(settings: KafkaSettings, topics: Sequence[str]) -> dict[Partition, range]:
    """The committed offsets that each partition holds. Raises DependencyFailed."""
    begins, ends = begin_offsets(settings, topics), end_offsets(settings, topics)
    return {partition: range(begin, ends[partition]) for partition, begin in begins.items()}


def waiting(
    settings: KafkaSettings, done: Mapping[Partition, int], held: Mapping[Partition, range]
) -> Waiting:
    """What of `held` (see `spans`) a group has not committed yet; `done` are the offsets it
    committed, and a partition that is not in it counts as a whole. Raises DependencyFailed."""
    starts = {
        partition: max(done.get(partition, 0), span.start) for partition, span in held.items()
    }
    behind = {
        partition: start for partition, start in starts.items() if start < held[partition].stop
    }
    stamps = first_timestamps(settings, behind)
    return Waiting(
        sum(held[partition].stop - starts[partition] for partition in stamps),
        min(stamps.values(), default=None),
    )


def first_timestamps(
    settings: KafkaSettings, starts: Mapping[Partition, int]
) -> dict[Partition, int]:
    """Timestamp (epoch ms) of the first committed record at or after an offset of each partition;
    partitions without one are absent. Raises DependencyFailed."""
    if not starts:
        return {}
    reader, troubles = consumer(settings, READ_COMMITTED)
    timestamps: dict[Partition, int] = {}
    left = set(starts)
    deadline = time.monotonic() + FIRST_S
    try:
        reader.assign([TopicPartition(*partition, offset) for partition, offset in starts.items()])
        while left:
            message = reader.poll(0.5)
            if message is None:
                if time.monotonic() > deadline:
                    where = ", ".join(f"{topic}-{number}" for topic, number in sorted(left)[:3])
                    raise DependencyFailed(
                        f"Kafka at {bootstrap(settings)} gave no record of {where}"
                        f" within {FIRST_S:g} s: {troubles.why() or 'no reason known'}"
                    )
                continue
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise DependencyFailed(failure(settings, "read a record", error, troubles))
            partition = (str(message.topic()), int(message.partition() or 0))
            if error is None and partition in left:
                timestamps[partition] = message.timestamp()[1]
            left.discard(partition)
            reader.pause([TopicPartition(*partition)])
    finally:
        reader.close()
    return timestamps
