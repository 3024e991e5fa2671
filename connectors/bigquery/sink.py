"""BigQuery as a store of facts (docs/bigquery.md)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import Any

import grpc
import pyarrow as pa
from google.cloud import bigquery

from connectors.bigquery import shape, views
from connectors.bigquery.answers import PASSING_REASONS
from connectors.bigquery.append import Append
from connectors.bigquery.connection import Connection, stream_of
from connectors.bigquery.dataset import Dataset
from connectors.bigquery.insert import Insert
from connectors.bigquery.load import load_day
from connectors.bigquery.reach import Rest, storage_channel
from connectors.bigquery.settings import BigQuerySettings
from connectors.files import DependencyFailed
from connectors.sink import Passing, Written, patiently, refused
from connectors.tables import FIRST_LOOK, Table

NAME = "bigquery"


class BigQuerySink:
    """Tables of revised rows, each with a view `<table>_latest` of what holds now. Any number of
    threads and processes may write to the same tables; within one sink they take turns.

    Raises BadSettings where settings lack the project, DependencyFailed without credentials.
    """

    def __init__(self, settings: BigQuerySettings) -> None:
        self.settings = settings
        self.dataset = Dataset(Rest(settings))
        self._turn = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._connections: dict[str, Connection] = {}

    def prepare(self, tables: Sequence[Table]) -> None:
        """Make dataset, tables and views where they are missing, add columns that are new. Raises
        DependencyFailed."""
        for table in tables:
            self.dataset.ensure(table)

    def write(self, table: Table, rows: pa.Table) -> Written:
        """Write rows of `table.revised`; rows that came before come again without harm. Raises
        DependencyFailed."""
        with self._turn:
            writing = self._writing(table)
            writing.write(shape.sent(table, rows))
        bad = sorted(writing.refused)
        reasons = [writing.refused[place] for place in bad]
        letters = refused(NAME, table, rows.take(pa.array(bad, pa.int64())), reasons)
        return Written(writing.kept, writing.size, writing.retries, letters)

    def load_day(
        self, table: Table, day: date, files: Sequence[Any], revision: int = FIRST_LOOK
    ) -> tuple[int, int]:
        """Append a whole UTC day from Parquet files by a load job and return rows and bytes; the
        same content is loaded once, however often this is called. Raises DependencyFailed."""
        return load_day(self.dataset, table, day, files, revision)

    def compact(self, table: Table, day: date) -> None:
        """Leave one row a key of that UTC day; rows that come meanwhile stay. Raises
        DependencyFailed."""
        rest, place = self.dataset.rest, self.dataset.place(table)
        given = [bigquery.ScalarQueryParameter("day", "DATE", day)]
        config = bigquery.QueryJobConfig(query_parameters=given)
        ask = partial(rest.client.query, job_config=config, job_retry=None)

        def run() -> None:
            job = rest.once(f"compact {day} of {place}", ask, views.compacted(table, place))
            if error := rest.end_of(job):
                words = f"BigQuery {place}: compacting {day}: {error.get('message')}"
                passes = error.get("reason") in PASSING_REASONS
                raise (Passing if passes else DependencyFailed)(words)

        patiently(self.settings, run)

    def close(self) -> None:
        """Let go of connections."""
        with self._turn:
            for name in list(self._connections):
                self._connections.pop(name).close()
            if self._channel:
                self._channel.close()
                self._channel = None
            self.dataset.rest.close()

    def _writing(self, table: Table) -> Append | Insert:
        place = self.dataset.place(table)

        def ensure() -> None:
            self.dataset.ensure(table)

        if self.settings.mode == "insert_rows":
            return Insert(self.dataset.rest, table, place, ensure)
        return Append(
            self.settings,
            place,
            connection=lambda: self._connection(table.name, place),
            lost=lambda: self._connections.pop(table.name).close(),
            ensure=ensure,
        )

    def _connection(self, name: str, place: str) -> Connection:
        """The table's connection; one that the other side ended meanwhile is made anew."""
        found = self._connections.get(name)
        if found and not found.ended:
            return found
        if found:
            found.close()
        if self._channel is None:
            self._channel = storage_channel(self.settings)
        made = Connection(self._channel, stream_of(place))
        self._connections[name] = made
        return made
