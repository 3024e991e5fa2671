"""BigQuery as a store of facts (docs/sinks/bigquery.md)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

import grpc
import numpy as np
import pyarrow as pa

from connectors.sinks.bigquery import schema
from connectors.sinks.bigquery.append import Append
from connectors.sinks.bigquery.append_stream import Connection, stream_of
from connectors.sinks.bigquery.client import RestClient, storage_channel
from connectors.sinks.bigquery.compact import compact
from connectors.sinks.bigquery.dataset import Dataset
from connectors.sinks.bigquery.errors import RowsRefused
from connectors.sinks.bigquery.insert import Insert
from connectors.sinks.bigquery.load import load_rows, rows_of
from connectors.sinks.bigquery.load_bisect import load_by_halves, pieces
from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.bisect import Doubt
from connectors.sinks.contract import Written, together
from connectors.sinks.refused_rows import refused
from connectors.sinks.tables import FIRST_LOOK, Table
from transforms.model.dead_letters import no_dead

NAME = "bigquery"
_LOG = logging.getLogger(__name__)


class BigQuerySink:
    """Tables of revised rows, each with a view `<table>_latest` of what holds now. Any number of
    threads and processes may write to the same tables; within one sink they take turns.

    Raises BadSettings where settings lack the project, DependencyFailed without credentials.
    """

    def __init__(self, settings: BigQuerySettings) -> None:
        self.settings = settings
        self.dataset = Dataset(RestClient(settings))
        self._turn = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._connections: dict[str, Connection] = {}
        self._doubts: dict[str, Doubt] = {}

    def prepare(self, tables: Sequence[Table]) -> None:
        """Make dataset, tables and views where they are missing, add columns that are new. Raises
        DependencyFailed."""
        for table in tables:
            self.dataset.ensure(table)

    def write(self, table: Table, rows: pa.Table) -> Written:
        """Write rows of `table.revised`; rows that came before come again without harm. Raises
        DependencyFailed."""
        batch = schema.sent(table, rows)
        bad = schema.unstreamable(batch, datetime.now(UTC).date())
        inside = np.setdiff1d(np.arange(rows.num_rows), np.fromiter(bad, np.int64))
        with self._turn:
            writing = self._writing(table)
            try:
                writing.write(batch.take(pa.array(inside)) if bad else batch)
            except BaseException:
                self._lose(table.name)
                self._doubts.pop(table.name, None)
                raise
        bad |= {int(inside[place]): reason for place, reason in writing.refused.items()}
        places = sorted(bad)
        letters = refused(
            NAME, table, rows.take(pa.array(places, pa.int64())), [bad[n] for n in places]
        )
        return Written(writing.kept, writing.size, writing.retries, letters)

    def load_day(
        self, table: Table, day: date, files: Iterable[Any], revision: int = FIRST_LOOK
    ) -> Written:
        """Append a whole UTC day from Parquet files by a load job; the same content is loaded once,
        however often this is called. Where BigQuery refuses the job for what is in some rows, they
        are written as by `write`, which names those; where it does not stream into that day, the
        job is cut in halves until it is one row. Raises DependencyFailed."""
        files = list(files) if isinstance(files, Iterator) else files
        try:
            loaded = load_rows(self.dataset, table, day, rows_of(table, day, files, revision))
            return Written(*loaded, 0, no_dead())
        except RowsRefused as error:
            _LOG.warning("%s; rows that are not at fault are written without the others", error)
        parts = pieces(rows_of(table, day, files, revision))
        if schema.streams_into(day, datetime.now(UTC).date()):
            return together(self.write(table, part) for part in parts)
        return load_by_halves(self.dataset, NAME, table, day, parts)

    def compact(self, table: Table, day: date) -> bool:
        """Leave one row a key of that UTC day; rows that come meanwhile stay. False where that is
        for later: BigQuery changes no row that was streamed a short while ago. Raises
        DependencyFailed."""
        return compact(self.dataset, table, day)

    def close(self) -> None:
        """Let go of connections."""
        with self._turn:
            for name in list(self._connections):
                self._lose(name)
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
            lost=lambda: self._lose(table.name),
            ensure=ensure,
            doubt=self._doubts.setdefault(table.name, Doubt()),
        )

    def _lose(self, name: str) -> None:
        """Close the table's connection: answers may be on their way to who asks no more."""
        if found := self._connections.pop(name, None):
            found.close()

    def _connection(self, name: str, place: str) -> Connection:
        """The table's connection; one that the other side ended meanwhile is made anew."""
        found = self._connections.get(name)
        if found and not found.ended:
            return found
        self._lose(name)
        if self._channel is None:
            self._channel = storage_channel(self.settings)
        made = Connection(self._channel, stream_of(place))
        self._connections[name] = made
        return made
