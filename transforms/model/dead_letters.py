"""What a stage returns: what went on, and what could not, with its exact bytes and place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import pyarrow as pa

from schemas.arrow import record_schema
from transforms.model.raw_messages import message_bytes

VERSION = "0.1.0"
DEAD_SCHEMA = record_schema("dead_letter")
MESSAGE_LIMIT = 1024

Good = TypeVar("Good")


@dataclass(frozen=True)
class Refusal:
    """Why the message in row `row` of a raw batch could not become facts."""

    row: int
    error_type: str
    message: str
    device_no: str | None = None
    message_type: str | None = None


@dataclass(frozen=True)
class Outcome(Generic[Good]):
    """`good` and `dead` together hold every upload that came in exactly once.

    A stage raises only for a bug or a missing dependency, never for bad data.
    """

    good: Good
    dead: pa.RecordBatch


def no_dead() -> pa.RecordBatch:
    """An empty batch of dead letters."""
    return _EMPTY


_EMPTY = pa.RecordBatch.from_pylist([], schema=DEAD_SCHEMA)


def all_dead(parts: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """Dead letters of all parts in one batch."""
    whole = pa.Table.from_batches(list(parts), DEAD_SCHEMA).combine_chunks().to_batches()
    return whole[0] if whole else no_dead()


def place_id(place: dict[str, object]) -> str:
    """`dead_letter_id`: a function of the record's place alone, so that a replay repeats it."""
    if place["offset"] is not None:
        text = f"{place['topic']}|{place['partition']}|{place['offset']}"
    else:
        text = f"{place['object']}|{place['line']}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def dead_letters(
    raw: pa.RecordBatch, refusals: Sequence[Refusal], stage: str, max_bytes: int
) -> pa.RecordBatch:
    """Dead letters (schema `dead_letter`) for the refused rows of a raw batch."""
    if not refusals:
        return _EMPTY
    taken = raw.take(pa.array([refusal.row for refusal in refusals])).to_pylist()
    rows = []
    for refusal, place in zip(refusals, taken, strict=True):
        value = message_bytes(place["value"], place["is_line"])
        rows.append(
            {
                "dead_letter_id": place_id(place),
                "source_topic": place["topic"],
                "source_partition": place["partition"],
                "source_offset": place["offset"],
                "source_object": place["object"],
                "source_line": None if place["object"] is None else place["line"],
                "source_key": place["key"],
                "raw_value": value[:max_bytes],
                "raw_size": place["size"] or len(value),
                "raw_headers": place["headers"] or [],
                "device_no": refusal.device_no,
                "message_type": refusal.message_type,
                "stage": stage,
                "error_type": refusal.error_type,
                "error_message": refusal.message[:MESSAGE_LIMIT],
                "received_time": place["timestamp"] or place["arrival_hour"],
                "attempt": 0,
                "retryable": False,
                "pipeline_version": VERSION,
            }
        )
    return pa.RecordBatch.from_pylist(rows, schema=DEAD_SCHEMA)
