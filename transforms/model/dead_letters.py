"""What a stage returns: its good result, and dead letters for what it refused."""

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
    """`good` and `dead` (schema `DEAD_SCHEMA`) together hold every input upload exactly once.

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


def _dead_letter_id(source: dict[str, object]) -> str:
    """A function of where the record came from alone, so that a replay gives the same id."""
    if source["offset"] is not None:
        text = f"{source['topic']}|{source['partition']}|{source['offset']}"
    else:
        text = f"{source['object']}|{source['line']}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def dead_letters(
    raw: pa.RecordBatch, refusals: Sequence[Refusal], stage: str, max_bytes: int
) -> pa.RecordBatch:
    """Dead letters (schema `dead_letter`) for the refused rows of a raw batch, one a refusal.

    `stage` is DECODE or SINK; of a longer message only the first `max_bytes` are kept.
    """
    if not refusals:
        return _EMPTY
    sources = raw.take(pa.array([refusal.row for refusal in refusals])).to_pylist()
    rows = []
    for refusal, source in zip(refusals, sources, strict=True):
        value = message_bytes(source["value"], source["is_line"])
        rows.append(
            {
                "dead_letter_id": _dead_letter_id(source),
                "source_topic": source["topic"],
                "source_partition": source["partition"],
                "source_offset": source["offset"],
                "source_object": source["object"],
                "source_line": None if source["object"] is None else source["line"],
                "source_key": source["key"],
                "raw_value": value[:max_bytes],
                "raw_size": source["size"] or len(value),
                "raw_headers": source["headers"] or [],
                "device_no": refusal.device_no,
                "message_type": refusal.message_type,
                "stage": stage,
                "error_type": refusal.error_type,
                "error_message": refusal.message[:MESSAGE_LIMIT],
                "received_time": source["timestamp"] or source["arrival_hour"],
                "attempt": 0,
                "retryable": False,
                "pipeline_version": VERSION,
            }
        )
    return pa.RecordBatch.from_pylist(rows, schema=DEAD_SCHEMA)
