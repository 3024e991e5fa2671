"""The tables of facts as stores keep them: their columns, what a row is known by, and its date."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas import MESSAGE_TYPES
from schemas.arrow import record_schema, telemetry_schema

REVISION = pa.field("revision", pa.int64(), nullable=False)
GONE = pa.field("gone", pa.bool_(), nullable=False)
KNOWLEDGE_BITS = 20


@dataclass(frozen=True)
class Table:
    """`columns` are those of the facts; `key` names the columns that tell a row from all others,
    `time` the column (timestamp, UTC) whose UTC date decides which part of a store it lies in."""

    name: str
    columns: pa.Schema
    key: tuple[str, ...]
    time: str

    @property
    def revised(self) -> pa.Schema:
        """`columns` as a store gets them, with REVISION and GONE behind.

        Of several rows of one key in one part of a store the highest `revision` counts; where two
        are the same the first that came counts. A row that is `gone` takes away what its part has
        of its key; only `key`, `time` and the revision of it mean anything.
        """
        own = [field for field in self.columns if field.name != REVISION.name]
        return pa.schema([*own, REVISION, GONE])


TELEMETRY = {
    name: Table(
        f"telemetry_{name}", telemetry_schema(name), ("message_id", "sample_idx"), "event_time"
    )
    for name in MESSAGE_TYPES
}
MINUTES = Table(
    "vehicle_minutes", record_schema("vehicle_minute"), ("vehicle_id", "minute"), "minute"
)
TABLES = {table.name: table for table in (*TELEMETRY.values(), MINUTES)}

FIRST_LOOK = 0
"""Lowest revision of a row that was judged by itself: anything known better replaces it."""
_RECEIVED_BITS, _PARTITION_BITS = 42, 14
JUDGED = 1 << _RECEIVED_BITS + _PARTITION_BITS
"""Revisions from here on are of rows that were judged by more than themselves."""


def first_look(received_ms: np.ndarray, partition: np.ndarray) -> np.ndarray:
    """Revisions of rows that were judged by themselves, from FIRST_LOOK up to below those of
    `revision`: of two copies of an upload that was received first, then that of the lower
    partition, so that it does not matter which is written first. int64 of shape (rows,)."""
    latest, last = (1 << _RECEIVED_BITS) - 1, (1 << _PARTITION_BITS) - 1
    earlier = latest - np.clip(received_ms, 0, latest)
    return np.asarray(earlier << _PARTITION_BITS | last - np.minimum(partition, last))


def revision(known_ms: int, count: int = (1 << KNOWLEDGE_BITS) - 1) -> int:
    """Revision of rows judged by all that was known at `known_ms` (epoch ms), `count` uploads."""
    return known_ms << KNOWLEDGE_BITS | min(count, (1 << KNOWLEDGE_BITS) - 1)


def recorded(timestamp_ms: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Revisions of rows that stand on a topic in the order of their revisions, by the place of
    their records. int64 of shape (rows,)."""
    return np.asarray(timestamp_ms << KNOWLEDGE_BITS | offset & ((1 << KNOWLEDGE_BITS) - 1))
