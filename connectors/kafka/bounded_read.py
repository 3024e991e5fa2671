"""Bounded reads of topics: messages byte for byte with their offsets, as raw batches."""

from __future__ import annotations

import logging
import operator
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from connectors.errors import BadSettings, DependencyFailed
from connectors.kafka.client import (
    READ_COMMITTED,
    REQUEST_S,
    Troubles,
    asking,
    bootstrap,
    consumer,
    failure,
)
from connectors.kafka.settings import KafkaSettings
from schemas.arrow import UTC_MS
from transforms.model.raw_messages import SCHEMA, constant

MAX_RECORDS = 10_000
MAX_BYTES = 16 << 20
STALL_S = 60.0
NEAR = 500
_POLL_S = 0.1
_FIRST_LOOK = 100
_NAMED = 5
log = logging.getLogger(__name__)
_DELETED = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)


class OffsetsGone(DependencyFailed):
    """Offsets that the topic does not hold (any more, or yet): names them and what it holds."""


class MessagePosition(NamedTuple):
    """The topic, partition and offset of a message."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Limits:
    """The size of a batch: at most `records` messages and `bytes` bytes of keys and values; a
    single larger message makes a batch of its own. A read fails when no message came for
    `stall_s`."""

    records: int = MAX_RECORDS
    bytes: int = MAX_BYTES
    stall_s: float = STALL_S


def read_range(
    settings: KafkaSettings,
    topic: str,
    partition: int,
    start: int,
    end: int,
    isolation: str = READ_COMMITTED,
    limits: Limits = Limits(),
) -> Iterator[pa.RecordBatch]:
    """Messages with offsets in [start, end), in order, as batches of `raw_messages.SCHEMA`
    (`object` and `arrival_hour` null, `line` the offset). Offsets without a message (compacted, or
    markers and aborted messages of transactions) are skipped. A message with a header name that is
    not UTF-8 comes without headers.

    Raises OffsetsGone where the partition begins after `start` or ends before `end`,
    DependencyFailed when brokers do not answer or a transaction before `end` stays open.
    """
    if not 0 <= start <= end:
        raise BadSettings(f"offsets {start} to {end} of {topic}-{partition}: give 0 <= from <= to")
    if start == end:
        return
    with _reading(settings, isolation) as reader:
        reader.check(topic, partition, start, end)
        for messages in reader.run(topic, partition, start, end, limits):
            yield from _batches(messages, limits)


def read_positions(
    settings: KafkaSettings,
    positions: Iterable[MessagePosition],
) -> Iterator[pa.RecordBatch]:
    """The committed messages at single positions, each once, ordered by topic, partition and
    offset, as batches of `raw_messages.SCHEMA`. Neighbours are fetched together.

    Raises OffsetsGone where a position holds no message, DependencyFailed as `read_range` does.
    """
    wanted = sorted(set(positions))
    if not wanted:
        return
    limits = Limits()
    with _reading(settings, READ_COMMITTED) as reader:
        for (topic, partition), group in groupby(wanted, key=lambda position: position[:2]):
            offsets = [position[2] for position in group]
            reader.check(topic, partition, offsets[0], offsets[-1] + 1)
            for run in _runs(offsets):
                missing = set(run)
                for messages in reader.run(topic, partition, run[0], run[-1] + 1, limits):
                    chosen = [message for message in messages if message.offset() in missing]
                    missing.difference_update(message.offset() for message in chosen)
                    yield from _batches(chosen, limits)
                if missing:
                    names = ", ".join(map(str, sorted(missing)[:_NAMED]))
                    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
                    raise OffsetsGone(
                        f"{topic}-{partition} holds no message at {names}{more}: compaction or an"
                        " aborted transaction took it; read it from the archive"
                    )


def _runs(offsets: Sequence[int]) -> Iterator[list[int]]:
    """Sorted offsets, cut where two of them are so far apart that seeking is cheaper."""
    cuts = np.flatnonzero(np.diff(offsets) > NEAR) + 1
    for part in np.split(np.asarray(offsets), cuts):
        yield part.tolist()


@contextmanager
def _reading(settings: KafkaSettings, isolation: str) -> Iterator[_Reader]:
    client, troubles = consumer(settings, isolation)
    try:
        yield _Reader(settings, client, troubles)
    finally:
        client.close()


@dataclass
class _Reader:
    """A consumer that reads one run of offsets after another."""

    settings: KafkaSettings
    client: Consumer
    troubles: Troubles

    def check(self, topic: str, partition: int, start: int, end: int) -> None:
        """Raises OffsetsGone unless the partition holds offsets [start, end)."""
        at = TopicPartition(topic, partition)
        with asking(self.settings, f"look up offsets of {topic}-{partition}", self.troubles):
            low, high = self.client.get_watermark_offsets(at, timeout=REQUEST_S)
        where = f"{topic}-{partition} at Kafka {bootstrap(self.settings)}"
        if start < low:
            raise OffsetsGone(
                f"{where} begins at offset {low}; {start} to {min(low, end) - 1} are deleted:"
                " read them from the archive, or begin later"
            )
        if end > high and not self._within_open_transaction(topic, partition, end):
            raise OffsetsGone(
                f"{where} ends before offset {high}; {max(high, start)} to {end - 1} are not"
                " written: end earlier"
            )

    def _within_open_transaction(self, topic: str, partition: int, end: int) -> bool:
        """Whether offsets up to `end` are written, though not yet all decided."""
        other, troubles = consumer(self.settings, "read_uncommitted")
        try:
            with asking(self.settings, f"look up offsets of {topic}-{partition}", troubles):
                at = TopicPartition(topic, partition)
                return bool(end <= other.get_watermark_offsets(at, timeout=REQUEST_S)[1])
        finally:
            other.close()

    def run(
        self, topic: str, partition: int, start: int, end: int, limits: Limits
    ) -> Iterator[list[Message]]:
        """The messages with offsets [start, end), in lists of about the size of a batch."""
        self.client.assign([TopicPartition(topic, partition, start)])
        wanted, reached, last = min(_FIRST_LOOK, limits.records), start, time.monotonic()
        while reached < end:
            messages, reached_now = self._some(min(wanted, end - reached), reached)
            if reached_now > reached:
                reached, last = reached_now, time.monotonic()
            elif time.monotonic() - last > limits.stall_s:
                raise DependencyFailed(self._stalled(topic, partition, reached, end, limits))
            messages = [
                message for message in messages if (at := message.offset()) is not None and at < end
            ]
            if messages:
                mean = sum(map(_size, messages)) / len(messages)
                wanted = min(limits.records, max(1, int(limits.bytes / max(mean, 1))))
                yield messages
                last = time.monotonic()
        self.client.unassign()

    def _some(self, wanted: int, reached: int) -> tuple[list[Message], int]:
        """The next messages (at most `wanted`), and the offset before which no other will come."""
        messages = []
        with asking(self.settings, "read", self.troubles):
            for message in self.client.consume(wanted, _POLL_S):
                error = message.error()
                if error is None:
                    messages.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    reached = max(reached, message.offset() or 0)
                elif error.code() in _DELETED:
                    raise OffsetsGone(
                        f"{message.topic()}-{message.partition()}: offset {reached} was deleted"
                        " while it was read: begin later, or read it from the archive"
                    )
                elif not error.retriable():
                    raise KafkaException(error)
        last = messages[-1].offset() if messages else None
        return messages, reached if last is None else max(reached, last + 1)

    def _stalled(self, topic: str, partition: int, at: int, end: int, limits: Limits) -> str:
        why = self.troubles.why()
        what = f"give {topic}-{partition} from offset {at} to {end} within {limits.stall_s:g} s"
        if why is not None:
            return failure(self.settings, what, KafkaError(KafkaError._TRANSPORT), self.troubles)
        return (
            f"Kafka at {bootstrap(self.settings)} could not {what}: no error was reported, so a"
            " transaction may be open there; end the range before it, or wait for it to end"
        )


def _size(message: Message) -> int:
    return len(message.value() or b"") + len(message.key() or b"")


def _batches(messages: Sequence[Message], limits: Limits) -> Iterator[pa.RecordBatch]:
    """Messages of one partition as raw batches within the limits."""
    if not messages:
        return
    sizes = np.fromiter(map(_size, messages), np.int64, len(messages))
    begin = 0
    while begin < len(messages):
        upto = np.searchsorted(np.cumsum(sizes[begin:]), limits.bytes, side="right")
        end = begin + min(max(int(upto), 1), limits.records)
        yield _batch(messages[begin:end])
        begin = end


def _batch(messages: Sequence[Message]) -> pa.RecordBatch:
    """Messages of one partition, in the schema of raw messages."""
    count = len(messages)
    offsets = pa.array(np.fromiter((message.offset() for message in messages), np.int64, count))
    stamps = [message.timestamp() for message in messages]
    times = [None if kind == TIMESTAMP_NOT_AVAILABLE else ms for kind, ms in stamps]
    columns = [
        constant(messages[0].topic(), count, pa.string()),
        constant(messages[0].partition(), count, pa.int32()),
        offsets,
        pa.nulls(count, pa.string()),
        offsets,
        pa.nulls(count, UTC_MS),
        pa.array(times, pa.int64()).cast(pa.timestamp("ms")).cast(UTC_MS),
        pa.array([message.key() for message in messages], pa.binary()),
        pa.array([message.value() for message in messages], pa.binary()),
        pa.nulls(count, pa.int64()),
        constant(False, count, pa.bool_()),
        pa.array(list(map(_headers, messages)), SCHEMA.field("headers").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


_ask_headers = operator.methodcaller("headers")
"""The client returns headers and raises at once, which the interpreter does not notice in a method
it calls often; called from here it does."""


def _headers(message: Message) -> list[tuple[str, bytes | None]] | None:
    """The headers of a message; None where a name is not UTF-8, which the client cannot give.
    It must not be asked twice: after the first refusal it crashes."""
    try:
        headers: list[tuple[str, bytes | None]] | None = _ask_headers(message)
    except (UnicodeDecodeError, SystemError) as error:
        if isinstance(error, SystemError) and not isinstance(error.__cause__, UnicodeDecodeError):
            raise
        where = f"{message.topic()}-{message.partition()} offset {message.offset()}"
        log.warning("%s: headers left out, for the name of one is not UTF-8", where)
        return None
    return headers
