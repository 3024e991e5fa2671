"""The tables of facts as stores keep them: their columns, what a row is known by, and its date."""

from __future__ import annotations

from dataclasses import dataclass

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
"""Revision of a row that was judged by itself: anything known better replaces it."""


def revision(known_ms: int, count: int = (1 << KNOWLEDGE_BITS) - 1) -> int:
    """Revision of rows judged by all that was known at `known_ms` (epoch ms), `count` uploads."""
    return known_ms << KNOWLEDGE_BITS | min(count, (1 << KNOWLEDGE_BITS) - 1)
