"""How far a consumer group is behind: what it has not committed yet, and since when that waits."""

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
"""What brokers say of a group while another of them takes it over."""


@dataclass(frozen=True)
class Waiting:
    """What a group has not committed: `offsets` counts them, markers of transactions too, and is 0
    where no record stands there; `since_ms` is the oldest timestamp of the first records that wait
    in each partition (epoch ms), None where none does."""

    offsets: int
    since_ms: int | None


def committed(
    settings: KafkaSettings, group: str, places: Iterable[Partition]
) -> dict[Partition, int]:
    """Of these partitions the offsets a group will go on from; nothing of those it never
    committed. Raises DependencyFailed."""
    named = {"properties": {**settings.properties, "group.id": group}}
    reader, troubles = consumer(settings.model_copy(update=named), READ_COMMITTED)
    try:
        with asking(settings, f"look up offsets of the group {group}", troubles):
            found = _committed(reader, [TopicPartition(*place) for place in places])
    finally:
        reader.close()
    for at in found:
        if at.error is not None:
            what = f"look up the offset of {at.topic}-{at.partition} of the group {group}"
            raise DependencyFailed(failure(settings, what, at.error, troubles))
    return {(at.topic, at.partition): at.offset for at in found if at.offset >= 0}


def _moves(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in _MOVING


@retry(
    retry=retry_if_exception(_moves),
    wait=wait_random(0.1, 0.5),
    stop=stop_after_delay(REQUEST_S),
    reraise=True,
)
def _committed(reader: Consumer, places: list[TopicPartition]) -> list[TopicPartition]:
    return reader.committed(places, REQUEST_S)


def spans(settings: KafkaSettings, topics: Sequence[str]) -> dict[Partition, range]:
    """The offsets that each partition holds of what is committed. Raises DependencyFailed."""
    begins, ends = begin_offsets(settings, topics), end_offsets(settings, topics)
    return {place: range(begin, ends[place]) for place, begin in begins.items()}


def waiting(
    settings: KafkaSettings, done: Mapping[Partition, int], held: Mapping[Partition, range]
) -> Waiting:
    """What waits, of what partitions hold (`spans`), for a group that has committed `done`; a
    partition it never committed waits as a whole. Raises DependencyFailed."""
    starts = {place: max(done.get(place, 0), span.start) for place, span in held.items()}
    behind = {place: start for place, start in starts.items() if start < held[place].stop}
    stamps = first_timestamps(settings, behind)
    return Waiting(
        sum(held[place].stop - starts[place] for place in stamps),
        min(stamps.values(), default=None),
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
