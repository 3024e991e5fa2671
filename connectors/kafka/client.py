"""Kafka: how a client is set up, which offsets a topic holds, and failures in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from connectors.errors import BadSettings, DependencyFailed
from connectors.kafka.settings import KafkaSettings
from connectors.settings import secret

REQUEST_S = 15.0
READ_COMMITTED, READ_UNCOMMITTED = "read_committed", "read_uncommitted"
ISOLATION = {
    READ_COMMITTED: IsolationLevel.READ_COMMITTED,
    READ_UNCOMMITTED: IsolationLevel.READ_UNCOMMITTED,
}
_UNREACHABLE = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError._SSL,
    KafkaError._AUTHENTICATION,
}
_Client = TypeVar("_Client")

Partition = tuple[str, int]
"""Topic and partition."""


def bootstrap(settings: KafkaSettings) -> str:
    """Addresses of the brokers (host:port, ...). Raises BadSettings when they are not set."""
    if not settings.bootstrap:
        raise BadSettings("kafka.bootstrap is not set: give host:port of one or more brokers")
    return settings.bootstrap


def client_properties(settings: KafkaSettings) -> dict[str, str]:
    """Properties of a librdkafka client, secrets resolved. Raises BadSettings, MissingSecret."""
    resolved = {name: secret(reference) for name, reference in settings.secrets.items()}
    return {"bootstrap.servers": bootstrap(settings), **settings.properties, **resolved}


class Troubles:
    """The error callback of a client: it keeps the last error, so that a timeout can say why."""

    def __init__(self) -> None:
        self.last: str | None = None
        self.listen: Callable[[float], Any] = lambda seconds: None

    def __call__(self, error: KafkaError) -> None:
        if self.last is None or error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.last = error.str()

    def why(self) -> str | None:
        """The last error, without the address it begins with; None where there was none."""
        self.listen(0.0)
        return self.last and re.sub(r"^.*?/\w+: ", "", self.last)


def admin(settings: KafkaSettings) -> tuple[AdminClient, Troubles]:
    """A client for topics and offsets, and the errors that it meets. Raises BadSettings."""
    client, troubles = _client(AdminClient, settings, {})
    troubles.listen = client.poll
    return client, troubles


def consumer(settings: KafkaSettings, isolation: str) -> tuple[Consumer, Troubles]:
    """A consumer outside any group: it commits nothing and reports the end of a partition.
    Raises BadSettings."""
    if isolation not in ISOLATION:
        raise BadSettings(f"isolation {isolation!r}: give one of {', '.join(ISOLATION)}")
    own = {
        "isolation.level": isolation,
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
        "enable.partition.eof": "true",
        "auto.offset.reset": "error",
        "allow.auto.create.topics": "false",
    }
    defaults = {"group.id": "odograph-reader", "queued.max.messages.kbytes": "32768"}
    return _client(Consumer, settings, own, defaults)


def _client(
    kind: Callable[[dict[str, Any]], _Client],
    settings: KafkaSettings,
    own: Mapping[str, str],
    defaults: Mapping[str, str] | None = None,
) -> tuple[_Client, Troubles]:
    troubles = Troubles()
    # librdkafka writes each failed connection to stderr; the error raised says the same once
    quiet = {"log_level": "2"}
    properties = {**quiet, **(defaults or {}), **client_properties(settings), **own}
    try:
        return kind({**properties, "error_cb": troubles}), troubles
    except KafkaException as error:
        raise BadSettings(f"kafka.properties: {error.args[0].str()}") from None
    except (TypeError, ValueError) as error:
        raise BadSettings(f"kafka.properties: {error}") from None


@contextmanager
def asking(settings: KafkaSettings, what: str, troubles: Troubles) -> Iterator[None]:
    """Turn Kafka's errors into DependencyFailed that names what was asked and the brokers."""
    try:
        yield
    except KafkaException as error:
        raise DependencyFailed(failure(settings, what, error.args[0], troubles)) from error


def failure(settings: KafkaSettings, what: str, error: KafkaError, troubles: Troubles) -> str:
    """A message for the user: what could not be done, where, why, and what to check."""
    where = bootstrap(settings)
    if error.code() not in _UNREACHABLE:
        return f"Kafka at {where} could not {what}: {error.str()}"
    why = troubles.why() or error.str()
    return (
        f"Kafka at {where} could not {what}: no broker answered ({why});"
        " check kafka.bootstrap and, where the brokers want it, security.protocol"
    )


def partitions(settings: KafkaSettings, topics: Sequence[str]) -> list[Partition]:
    """Every partition of the topics, in order. Raises DependencyFailed, also where a topic does not
    exist."""
    client, troubles = admin(settings)
    with asking(settings, "list its topics", troubles):
        known = client.list_topics(timeout=REQUEST_S).topics
    absent = [topic for topic in topics if topic not in known]
    if absent:
        raise DependencyFailed(
            f"Kafka at {bootstrap(settings)} has no topic {', '.join(absent)}:"
            " make it with `odograph topics apply`"
        )
    return [(topic, number) for topic in topics for number in sorted(known[topic].partitions)]


def begin_offsets(settings: KafkaSettings, topics: Sequence[str]) -> dict[Partition, int]:
    """The first offset each partition still holds. Raises DependencyFailed."""
    return _offsets(settings, partitions(settings, topics), OffsetSpec.earliest())


def end_offsets(
    settings: KafkaSettings, topics: Sequence[str], isolation: str = READ_COMMITTED
) -> dict[Partition, int]:
    """The offset behind the last message of each partition; with read_committed that of the first
    message of a transaction still open. Raises DependencyFailed."""
    return _offsets(settings, partitions(settings, topics), OffsetSpec.latest(), isolation)


def offsets_at(
    settings: KafkaSettings,
    topics: Sequence[str],
    moment: datetime,
) -> dict[Partition, int]:
    """The first offset of each partition whose timestamp is `moment` or later; the partition's end
    where there is none. `moment` must have a zone. Raises BadSettings, DependencyFailed."""
    if moment.tzinfo is None:
        raise BadSettings(f"time {moment.isoformat()} has no zone: give one, such as +09:00")
    wanted = partitions(settings, topics)
    since = OffsetSpec.for_timestamp(int(moment.timestamp() * 1000))
    ends = _offsets(settings, wanted, OffsetSpec.latest())
    firsts = _offsets(settings, wanted, since)
    return {
        partition: firsts[partition] if 0 <= firsts[partition] < end else end
        for partition, end in ends.items()
    }


def _offsets(
    settings: KafkaSettings,
    wanted: Sequence[Partition],
    spec: OffsetSpec,
    isolation: str = READ_COMMITTED,
) -> dict[Partition, int]:
    client, troubles = admin(settings)
    specs = {TopicPartition(topic, number): spec for topic, number in wanted}
    if not specs:
        return {}
    with asking(settings, f"look up offsets of {wanted[0][0]}", troubles):
        futures = client.list_offsets(
            specs, isolation_level=ISOLATION[isolation], request_timeout=REQUEST_S
        )
        return {(at.topic, at.partition): future.result().offset for at, future in futures.items()}
