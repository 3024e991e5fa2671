"""What every store is to a job: it takes rows by key, and takes them again without harm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

import pyarrow as pa

from connectors.sinks.tables import Table
from transforms.model.dead_letters import all_dead


@dataclass(frozen=True)
class Written:
    """What became of rows: `rows` the store has (already or now), `size` bytes sent for them,
    `retries` requests that were repeated, `refused` (schema `dead_letter`) those it will never
    take. `rows + refused.num_rows` is what was given."""

    rows: int
    size: int
    retries: int
    refused: pa.RecordBatch


def together(parts: Iterable[Written]) -> Written:
    """What became of rows that were written in parts."""
    done = list(parts)
    return Written(
        sum(one.rows for one in done),
        sum(one.size for one in done),
        sum(one.retries for one in done),
        all_dead(one.refused for one in done),
    )


class Sink(Protocol):
    """A store of tables."""

    def prepare(self, tables: Sequence[Table]) -> None:
        """Make what the tables need in the store, add columns that are new; safe to repeat and to
        do at the same time elsewhere. Raises DependencyFailed."""

    def write(self, table: Table, rows: pa.Table) -> Written:
        """Write rows of `table.revised`; on return the store has them for good or refused them.
        Raises DependencyFailed when it stays away, and nothing is known of the rows then: writing
        them again is right."""

    def close(self) -> None:
        """Let go of connections."""


class DaySink(Sink, Protocol):
    """A sink that a backfill gives whole days."""

    def load_day(self, table: Table, day: date, files: Iterable[Any]) -> Written:
        """Add the rows of `table.revised` of a UTC day from Parquet files; the same content counts
        once, however often it is handed in. `files` may be read more than once. Raises
        DependencyFailed."""
