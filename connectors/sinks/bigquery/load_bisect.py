"""Rows of a day whose load job was refused: those that are at fault are named, the others kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from itertools import islice

import pyarrow as pa

from connectors.errors import DependencyFailed
from connectors.sinks.bigquery.append import DOUBTED, UNNAMED
from connectors.sinks.bigquery.dataset import Dataset
from connectors.sinks.bigquery.errors import RowsRefused
from connectors.sinks.bigquery.load import load_rows
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
        if sum(one.num_rows for one in waiting) >= PIECE_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def load_by_halves(
    dataset: Dataset, store: str, table: Table, day: date, parts: Iterable[pa.Table]
) -> Written:
    """Load each part, and the halves of one that is refused, down to single rows, which are dead
    letters of `store`. Raises DependencyFailed, also where UNNAMED rows are refused and none is
    kept elsewhere, for then it is not the rows."""
    waiting = iter(parts)
    halves: list[pa.Table] = []
    done: list[Written] = []
    kept = alone = in_vain = 0
    while (rows := halves.pop() if halves else next(waiting, None)) is not None:
        try:
            done.append(Written(*load_rows(dataset, table, day, [rows]), 0, no_dead()))
            kept += done[-1].rows
        except RowsRefused as error:
            middle = rows.num_rows // 2
            if middle:
                halves += [rows.slice(middle), rows.slice(0, middle)]
            else:
                done.append(Written(0, 0, 0, refused(store, table, rows, [str(error)])))
                alone += 1
            if alone >= UNNAMED and not kept:
                in_vain += 1
                halves = sorted(halves or islice(waiting, 1), key=len)
                if in_vain > DOUBTED or not halves:
                    raise DependencyFailed(
                        f"{alone} rows of {day} were refused, each in a job of its own, and none "
                        f"was kept: {error}; compare the table's columns with "
                        "connectors/sinks/tables.py"
                    ) from error
    return together(done)
