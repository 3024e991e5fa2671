"""Merged objects of a lake: many small ones of an hour and table as one.

Beside a merged object there may be one of a source that it holds too: that one is newer, or it was
merged a moment ago. So of a source's rows those in an object of its own count, and those in a
merged object do not (ADR 0012).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.lake.names import is_merged, lake_name
from connectors.lake.write import parquet_writer
from connectors.storage.folder import Folder
from schemas import MESSAGE_TYPES
from schemas.arrow import record_schema
from transforms.facts.telemetry import rows_schema

SOURCE = {
    "dead_letters": "source_object",
    **{f"telemetry_{name}": "object" for name in MESSAGE_TYPES},
}
"""Tables whose objects are merged, and the column that says which archive object a row is of."""


def schema_of(table: str) -> pa.Schema:
    """Columns of a table that is merged, texts that repeat as dictionaries."""
    if table == "dead_letters":
        return record_schema("dead_letter")
    return rows_schema(table.removeprefix("telemetry_"))


def held(table: str, merged: pq.ParquetFile) -> list[str]:
    """Archive objects that a merged object has rows of."""
    column = merged.read([SOURCE[table]]).column(0)
    return sorted(name for name in pc.unique(column).to_pylist() if name is not None)


@dataclass(frozen=True)
class Hour:
    """Objects of a table's hour by name: merged ones in their order, and the others; size in
    bytes."""

    merged: dict[str, int]
    sources: dict[str, int]

    @classmethod
    def of(cls, listed: Iterable[tuple[str, int]]) -> Hour:
        """Of names without folders; what is not Parquet or hidden is left out."""
        found = {n: size for n, size in listed if n.endswith(".parquet") and n[0] != "."}
        merged = {name: size for name, size in sorted(found.items()) if is_merged(name)}
        sources = {name: size for name, size in sorted(found.items()) if name not in merged}
        return cls(merged, sources)

    def superseded(self, holds: Iterable[str]) -> list[str]:
        """Of the archive objects that a merged object holds those with an object of their own."""
        return [one for one in holds if lake_name(one) in self.sources]


def let_go(lake: Folder, name: str) -> None:
    """A source has no rows in this object any more: delete it. Where a merged object may hold
    rows of it, an empty one says instead that they do not count."""
    place = name.rpartition("/")[0]
    if not any(is_merged(other) for other, _ in lake.child(place).names()):
        lake.delete(name)
        return
    with lake.whole(name) as stream:
        parquet_writer(stream, schema_of(name.partition("/")[0])).close()
