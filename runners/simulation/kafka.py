"""Feeds records into Kafka device topics at a pace, from one core or less."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.errors import BadSettings, DependencyFailed
from connectors.kafka.client import Troubles, client_properties, failure, partitions
from connectors.kafka.settings import KafkaSettings
from runners.simulation.archive import Line

BURSTS_A_SECOND = 50
LARGEST_BURST = 1000
TUNING = {
    "linger.ms": 20,
    "compression.type": "lz4",
    "batch.size": 1 << 19,
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 128 << 10,
    "message.max.bytes": 8 << 20,
    "log_level": 2,
}


class Record(NamedTuple):
    """What is sent to a device topic; `timestamp_ms` is when it arrived (Kafka's CreateTime)."""

    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int


@dataclass(frozen=True)
class Pace:
    """How fast records go: `rate` of them a second, or `speed` times as fast as they arrived;
    as fast as Kafka takes them where neither is given."""

    rate: float | None = None
    speed: float | None = None


@dataclass
class Fed:
    """What Kafka has acknowledged, by topic, and how long that took."""

    records: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records.total() / self.seconds if self.seconds else 0.0


Progress = Callable[[int, int], None]
"""Gets how many records went out and the arrival (epoch ms) of the last of them."""


class Feeder:
    """An idempotent producer that keeps a pace. Records of one key keep their order.

    An outage of the brokers is waited for as long as the producer's `delivery.timeout.ms` (five
    minutes unless the settings say otherwise), then DependencyFailed is raised.
    """

    def __init__(
        self, settings: KafkaSettings, pace: Pace | None = None, progress: Progress | None = None
    ) -> None:
        self._settings = settings
        self._pace, self._progress = pace or Pace(), progress
        self._failure: str | None = None
        self._troubles = Troubles()
        self._fed = Fed()
        self._sent = 0
        self._began = 0.0
        self._first_ms: int | None = None
        self._producer = self._open()
        self._troubles.listen = self._producer.poll

    def _open(self) -> Producer:
        own = {
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "acks": "all",
            "delivery.report.only.error": True,
            "on_delivery": self._refused,
            "error_cb": self._troubles,
        }
        try:
            return Producer({**TUNING, **client_properties(self._settings), **own})
        except KafkaException as error:
            raise BadSettings(f"kafka.properties: {error.args[0].str()}") from None

    def _refused(self, error: KafkaError | None, message: Message) -> None:
        if error is None or self._failure is not None:
            return
        what = f"take a record of {message.topic()}"
        self._failure = failure(self._settings, what, error, self._troubles)
        if error.code() == KafkaError.INVALID_TIMESTAMP:
            self._failure += (
                "; a record from the future is refused: use --start now, or raise"
                " message.timestamp.after.max.ms of the topic"
            )

    def check_topics(self, topics: Sequence[str]) -> None:
        """Raises DependencyFailed when the brokers do not answer or a topic is not there."""
        partitions(self._settings, topics)

    def send(self, records: Iterable[Record]) -> None:
        """Send records, each when it is due; returns when the last is handed to the producer.

        Raises DependencyFailed when Kafka refuses a record or is away for too long.
        """
        if not self._began:
            self._began = time.monotonic()
        source = iter(records)
        size = LARGEST_BURST
        if self._pace.rate:
            size = max(1, min(LARGEST_BURST, int(self._pace.rate / BURSTS_A_SECOND)))
        while burst := list(islice(source, size)):
            for part in self._when_due(burst):
                self._produce(part)
            self._sent += len(burst)
            if self._progress is not None:
                self._progress(self._sent, burst[-1].timestamp_ms)

    def _when_due(self, burst: list[Record]) -> Iterator[list[Record]]:
        """The burst, in one or more parts, each once it is due."""
        if self._pace.rate:
            self._wait_until(self._began + self._sent / self._pace.rate)
            yield burst
        elif self._pace.speed:
            if self._first_ms is None:
                self._first_ms = burst[0].timestamp_ms
            per_ms = 1 / (1000 * self._pace.speed)
            at = 0
            while at < len(burst):
                due = self._began + (burst[at].timestamp_ms - self._first_ms) * per_ms
                self._wait_until(due)
                end = at + 1
                until = self._first_ms + (due - self._began + 1 / BURSTS_A_SECOND) / per_ms
                while end < len(burst) and burst[end].timestamp_ms <= until:
                    end += 1
                yield burst[at:end]
                at = end
        else:
            yield burst

    def _wait_until(self, moment: float) -> None:
        """Wait, and hear what Kafka has to say meanwhile."""
        self._producer.poll(0)
        while (left := moment - time.monotonic()) > 0:
            self._producer.poll(min(left, 1.0))
        self._raise_failure()

    def _produce(self, burst: list[Record]) -> None:
        produce, records, sizes = self._producer.produce, self._fed.records, self._fed.bytes
        for topic, key, value, timestamp in burst:
            while True:
                try:
                    produce(topic, value, key, timestamp=timestamp)
                    break
                except BufferError:
                    self._producer.poll(0.02)
                    self._raise_failure()
                except KafkaException as error:
                    what = f"take a record of {topic}"
                    why = failure(self._settings, what, error.args[0], self._troubles)
                    raise DependencyFailed(why) from None
            records[topic] += 1
            sizes[topic] += len(value) + len(key)
        self._producer.poll(0)
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise DependencyFailed(self._failure)

    def finish(self) -> Fed:
        """Wait until all is acknowledged. Raises DependencyFailed when it is not."""
        while self._producer.flush(1.0):
            self._raise_failure()
        self._raise_failure()
        self._fed.seconds = time.monotonic() - self._began if self._began else 0.0
        return self._fed


def feed(
    settings: KafkaSettings,
    records: Iterable[Record],
    rate: float | None = None,
    progress: Progress | None = None,
) -> Fed:
    """Send all records, `rate` a second (None: as fast as they go); 20,000 uploads a second take
    less than a core where the iterator is quick. Returns when all are acknowledged.

    Raises DependencyFailed when the brokers are away, or refuse a record.
    """
    feeder = Feeder(settings, Pace(rate=rate), progress)
    feeder.check_topics(())
    feeder.send(records)
    return feeder.finish()


def as_sent(lines: Iterable[Line]) -> Iterator[Record]:
    """Simulated lines as records that hold them byte for byte."""
    for line in lines:
        yield Record(line.topic, line.key.encode(), line.payload, line.arrival)
