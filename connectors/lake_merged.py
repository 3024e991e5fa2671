"""Merged objects of a lake: many small ones of an hour and table as one.

Beside a merged object there may be one of a source that it holds too: that one is newer, or the
merged one was written a moment ago. So of a source's rows those in an object of its own count, and
those in a merged object do not (ADR 0012).
"""

from __future__ import annotations

import re

import pyarrow as pa

from connectors.files import Folder
from connectors.lake import parquet_writer
from schemas import MESSAGE_TYPES
from schemas.arrow import record_schema, telemetry_schema

SOURCE = {
    "dead_letters": "source_object",
    **{f"telemetry_{name}": "object" for name in MESSAGE_TYPES},
}
"""Tables whose objects are merged, and the column that says which archive object a row is of."""

_MERGED = re.compile(r"merged-(\d{4})\.parquet")


def merged_name(number: int) -> str:
    """Name of an hour's merged object; only the last one may still grow."""
    return f"merged-{number:04d}.parquet"


def is_merged(name: str) -> bool:
    """Whether an object is a merged one; `name` may have folders before it."""
    return _MERGED.fullmatch(name.rpartition("/")[2]) is not None


def schema_of(table: str) -> pa.Schema:
    """Columns of a table that is merged."""
    if table == "dead_letters":
        return record_schema("dead_letter")
    return telemetry_schema(table.removeprefix("telemetry_"))


def let_go(lake: Folder, name: str) -> None:
    """A source has no rows in this object any more: delete it. Where a merged object may hold
    rows of it, an empty one says instead that they do not count."""
    place = name.rpartition("/")[0]
    if not any(is_merged(other) for other, _ in lake.child(place).names()):
        lake.delete(name)
        return
    schema = schema_of(name.partition("/")[0])
    with lake.whole(name) as stream:
        parquet_writer(stream, schema).close()
