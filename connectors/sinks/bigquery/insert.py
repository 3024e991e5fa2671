"""Rows by tabledata.insertAll, for deployments so small that the Storage API is not worth it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from connectors.errors import DependencyFailed
from connectors.retries import TransientError, with_retries
from connectors.sinks.bigquery import schema
from connectors.sinks.bigquery.client import RestClient
from connectors.sinks.bigquery.errors import PASSING_REASONS, Missing
from connectors.sinks.bigquery.settings import LARGEST_APPEND
from connectors.sinks.tables import REVISION, Table

ROWS = 500
"""BigQuery advises no more in a request."""
_UNKNOWN = "no such field"


@dataclass(frozen=True)
class Entry:
    """A row as JSON has it, and the id by which BigQuery knows for a while that it has it."""

    insert_id: str
    values: dict[str, Any]


Row = tuple[int, Entry, int]
"""Its number among those given, and its bytes."""


class Insert:
    """One write to one table; `ensure` makes the table and its columns again."""

    def __init__(
        self, rest: RestClient, table: Table, place: str, ensure: Callable[[], None]
    ) -> None:
        self.rest, self.table, self.place, self.ensure = rest, table, place, ensure
        self.kept = self.size = self.retries = 0
        self.refused: dict[int, str] = {}

    def write(self, batch: pa.RecordBatch) -> None:
        """Until every row of `batch` is kept or in `refused`. Raises DependencyFailed."""
        settings = self.rest.settings
        step = min(ROWS, settings.batch_size)
        for start in range(0, batch.num_rows, step):
            rows = self._fitting(self._rows(batch.slice(start, step), start))
            for waiting in _requests(rows, settings.batch_bytes):
                with_retries(settings, partial(self._round, waiting), self._count_retry)

    def _count_retry(self) -> None:
        self.retries += 1

    def _round(self, waiting: dict[int, Entry]) -> None:
        """Insert what waits; raises TransientError when something is left to do."""
        places = list(waiting)
        try:
            errors = self.rest.once(
                f"insert into {self.place}",
                self.rest.client.insert_rows_json,
                self.place,
                [waiting[place].values for place in places],
                row_ids=[waiting[place].insert_id for place in places],
                skip_invalid_rows=True,
                ignore_unknown_values=False,
            )
        except Missing as error:
            self.ensure()
            raise TransientError(str(error)) from None
        reasons = {places[error["index"]]: _reason(error["errors"]) for error in errors}
        for place in places:
            if place not in reasons:
                self.kept += 1
                self.size += len(orjson.dumps(waiting.pop(place).values))
        self._judge(waiting, reasons)

    def _judge(self, waiting: dict[int, Entry], reasons: dict[int, tuple[str, str]]) -> None:
        passing, unknown = "", False
        for place, (reason, words) in reasons.items():
            if words.lower().startswith(_UNKNOWN):
                passing, unknown = words, True
            elif reason in PASSING_REASONS:
                passing = passing or words or reason
            elif reason == "accessDenied":
                raise DependencyFailed(f"BigQuery {self.place}: insert: {words}; grant it")
            else:
                self.refused[place] = f"{reason}: {words}"
                del waiting[place]
        if unknown:
            self.ensure()
        if waiting:
            raise TransientError(f"BigQuery {self.place}: insert: {passing}")

    def _fitting(self, rows: list[Row]) -> list[Row]:
        """The rows that fit into a request."""
        fitting = []
        for place, entry, size in rows:
            if size <= LARGEST_APPEND:
                fitting.append((place, entry, size))
            else:
                reason = f"the row has {size} bytes, an insert at most {LARGEST_APPEND}"
                self.refused[place] = reason
        return fitting

    def _rows(self, batch: pa.RecordBatch, first: int) -> list[Row]:
        columns = [_written(column) for column in batch.columns]
        rows = pa.RecordBatch.from_arrays(columns, batch.schema.names).to_pylist()
        entries = [
            Entry(_insert_id([row[name] for name in self._identity]), _not_null(row))
            for row in rows
        ]
        return [
            (first + number, entry, len(orjson.dumps(entry.values)))
            for number, entry in enumerate(entries)
        ]

    @property
    def _identity(self) -> tuple[str, ...]:
        return (*self.table.key, self.table.time, REVISION.name)


def _requests(rows: list[Row], size: int) -> list[dict[int, Entry]]:
    """Rows by place, cut so that none but a request of one row is larger than `size` bytes."""
    cut: list[dict[int, Entry]] = []
    room = 0
    for place, entry, length in rows:
        if not cut or length > room:
            cut.append({})
            room = size
        cut[-1][place] = entry
        room -= length
    return cut


def _not_null(row: dict[str, Any]) -> dict[str, Any]:
    """What there is of a row: BigQuery takes no null for a REPEATED field, and needs none else."""
    return {name: value for name, value in row.items() if value is not None}


def _written(column: pa.Array) -> pa.Array:
    """JSON has no instants, and numbers of other ranges and without NaN."""
    kind = column.type
    if pa.types.is_list(kind):
        return schema.with_values(column, _written(column.flatten()))
    if pa.types.is_timestamp(kind):
        return pc.strftime(column, format="%Y-%m-%dT%H:%M:%S+00:00")
    if pa.types.is_int64(kind) or pa.types.is_date32(kind):
        return column.cast(pa.string())
    if pa.types.is_float64(kind) and not pc.all(pc.is_finite(column.drop_null())).as_py():
        return pa.array([_number(value) for value in column.to_pylist()], pa.string())
    return column


def _number(value: float | None) -> str | None:
    if value is None or math.isfinite(value):
        return None if value is None else repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _insert_id(identity: list[Any]) -> str:
    return hashlib.sha256(orjson.dumps(identity)).hexdigest()[:32]


def _reason(errors: list[dict[str, str]]) -> tuple[str, str]:
    first = errors[0] if errors else {}
    where = f" ({first['location']})" if first.get("location") else ""
    return first.get("reason", "invalid"), f"{first.get('message', '')}{where}"
