"""Rows of a day whose load job was refused: those that are at fault are named, the others kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date

import pyarrow as pa

from connectors.errors import DependencyFailed
from connectors.sinks.bigquery.append import COMPARE
from connectors.sinks.bigquery.dataset import Dataset
from connectors.sinks.bigquery.errors import RowsRefused
from connectors.sinks.bigquery.load import load_rows
from connectors.sinks.bisect import Bisect, Doubt, NoneKept
from connectors.sinks.contract import Written, together
from connectors.sinks.refused_rows import refused
from connectors.sinks.tables import Table
from transforms.model.dead_letters import no_dead

PIECE_ROWS = 250_000


def pieces(rows: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of about PIECE_ROWS."""
    waiting: list[pa.Table] = []
    for part in rows:
        waiting.append(part)
        if sum(len(part) for part in waiting) >= PIECE_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def load_by_halves(
    dataset: Dataset, store: str, table: Table, day: date, parts: Iterable[pa.Table]
) -> Written:
    """Load each part, and the halves of one that is refused, down to single rows, which are dead
    letters of `store`. Raises DependencyFailed, also where single rows are refused and none is kept
    elsewhere, for then it is not the rows."""
    waiting, done = Bisect(parts, Doubt()), []
    for rows in waiting:
        try:
            written = Written(*load_rows(dataset, table, day, [rows]), 0, no_dead())
            waiting.kept += written.rows
            done.append(written)
        except RowsRefused as error:
            try:
                if not waiting.refused(rows):
                    done.append(Written(0, 0, 0, refused(store, table, rows, [str(error)])))
            except NoneKept as none:
                raise DependencyFailed(
                    f"{none.rows} rows of {day} were refused, each in a job of its own, and none "
                    f"was kept: {error}; {COMPARE}"
                ) from error
    return together(done)
