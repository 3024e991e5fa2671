"""Rows for stores that take whole days: they wait beside the lake until all objects are settled.

What waits is named by its content, and survives a run that is killed: an object that was settled
is not settled again, so the next run hands its rows on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.retries import DeliverySettings
from connectors.sinks.catalogue import entry_of
from connectors.sinks.tables import Table
from connectors.storage.folder import Folder
from pipelines.backfill.spec import BackfillSpec

LOAD_BYTES = 512 << 20
"""Of files that are loaded at once: a table may have 1,500 load jobs a day."""


@dataclass(frozen=True)
class Load:
    """Files of rows of one table and UTC date that wait for a store, by their names."""

    store: DeliverySettings
    table: str
    day: date
    files: tuple[str, ...]


@dataclass(frozen=True)
class Files:
    """Files of a folder, opened each time anew; those that are gone are left out."""

    place: Folder
    names: tuple[str, ...]

    def __iter__(self) -> Iterator[pa.BufferReader]:
        for name in self.names:
            data = self.place.read(name)
            if data is not None:
                yield pa.BufferReader(data)


def takes_days(store: DeliverySettings) -> bool:
    """Whether a store is given whole days."""
    return entry_of(store).day_load_name is not None


def put_by(spec: BackfillSpec, store: DeliverySettings, table: Table, rows: pa.Table) -> None:
    """Let rows of `table.revised` wait. Raises DependencyFailed."""
    dates = rows.column(table.time).cast(pa.date32())
    for day in pc.unique(dates):
        data = pa.BufferOutputStream()
        pq.write_table(rows.filter(pc.equal(dates, day)), data, compression="zstd")
        content = data.getvalue()
        name = hashlib.sha256(content).hexdigest()[:32]
        waiting(spec, store).write(f"{table.name}/{day}/{name}.parquet", content)


def store_name(store: DeliverySettings) -> str:
    """How a store that takes whole days is called in names of the lake's objects."""
    name_of = entry_of(store).day_load_name
    assert name_of is not None
    return name_of(store)


def waiting(spec: BackfillSpec, store: DeliverySettings) -> Folder:
    """Where rows wait for a store."""
    return spec.state.folder.child(f"days/{store_name(store)}")


def loads(spec: BackfillSpec) -> Iterator[Load]:
    """All that waits, cut into loads of LOAD_BYTES and the file that exceeds them."""
    for store in spec.stores:
        if takes_days(store):
            names = waiting(spec, store).names()
            for place, files in groupby(names, lambda found: found[0].rpartition("/")[0]):
                table, _, day = place.partition("/")
                for part in _cut(files):
                    yield Load(store, table, date.fromisoformat(day), part)


def _cut(files: Iterator[tuple[str, int]]) -> Iterator[tuple[str, ...]]:
    part: list[str] = []
    room = LOAD_BYTES
    for name, size in files:
        part.append(name)
        room -= size
        if room <= 0:
            yield tuple(part)
            part, room = [], LOAD_BYTES
    if part:
        yield tuple(part)
