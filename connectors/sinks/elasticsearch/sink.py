"""The sink: tables as indices of days or generations, and the newest state of vehicles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from connectors.sinks.bisect import Bisect
from connectors.sinks.contract import Written, together
from connectors.sinks.elasticsearch.bulk import Delivery
from connectors.sinks.elasticsearch.client import connect
from connectors.sinks.elasticsearch.documents import DAY_LENGTH, LONGEST_ID, lines, too_long
from connectors.sinks.elasticsearch.rollover import Rollover
from connectors.sinks.elasticsearch.settings import ElasticsearchSettings
from connectors.sinks.elasticsearch.templates import prepare
from connectors.sinks.elasticsearch.vehicle_cache import VehicleCache
from connectors.sinks.elasticsearch.vehicle_documents import KEY
from connectors.sinks.elasticsearch.vehicle_writes import Doubt, Vehicles
from connectors.sinks.refused_rows import refused
from connectors.sinks.tables import TELEMETRY, Table
from transforms.model.dead_letters import no_dead

NAME = "elasticsearch"
DAYS_AHEAD = 2
"""Only a wrong clock says more, and nobody would prune an index of its day."""


class ElasticsearchSink:
    """A contract.Sink. Rows are kept from `searchable_days` before today (UTC) until
    DAYS_AHEAD after it; others are done with, as if they had been written and pruned."""

    def __init__(
        self,
        settings: ElasticsearchSettings,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings
        self._now = now
        self._connection = connect(settings)
        rolling = settings.index_by == "rollover"
        self._rollover = Rollover(self._connection, now) if rolling else None
        self._longest = LONGEST_ID - (DAY_LENGTH + 1 if self._rollover else 0)
        self._doubt, self._cache = Doubt(), VehicleCache()
        self._pool = ThreadPoolExecutor(settings.max_in_flight_requests, NAME)

    def prepare(self, tables: Sequence[Table]) -> None:
        """Put the templates of the tables; fields that are new also into their indices."""
        prepare(self._connection, tables)

    def write(self, table: Table, rows: pa.Table) -> Written:
        """See Sink. At most `max_in_flight_requests` requests are made ready and on their way at
        once, of at most `batch_bytes` each (a row larger than that is alone in its own)."""
        if self._rollover:
            self._rollover.look(table)
        long = too_long(table, rows, self._longest)
        kept = rows.filter(pc.and_(pc.invert(long), self._searchable(table, rows)))
        vehicles = self._pool.submit(self._vehicles, table, rows)
        try:
            parts = [self._none(table, rows.filter(long)), *self._send(table, kept)]
        finally:
            wait([vehicles])
        parts.append(vehicles.result())
        done = together(parts)
        return Written(rows.num_rows - done.refused.num_rows, done.size, done.retries, done.refused)

    def close(self) -> None:
        """Let go of connections."""
        self._pool.shutdown()
        self._connection.close()

    def _vehicles(self, table: Table, rows: pa.Table) -> Written:
        vehicles = Vehicles(self._connection, self._latest(), self._doubt, self._cache)
        if table.name in _NAMES_OF_TELEMETRY:
            vehicles.write(rows)
        return Written(0, vehicles.size, vehicles.retries, no_dead())

    def _searchable(self, table: Table, rows: pa.Table) -> pa.ChunkedArray:
        today = self._now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        times = rows[table.time]
        first = pa.scalar(today - timedelta(days=self.settings.searchable_days), times.type)
        end = pa.scalar(today + timedelta(days=DAYS_AHEAD + 1), times.type)
        return pc.and_(pc.greater_equal(times, first), pc.less(times, end))

    def _latest(self) -> str:
        """The latest time that a clock which is right may say, as documents have it."""
        latest = self._now().astimezone(UTC) + timedelta(seconds=self.settings.ahead_s)
        return latest.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _send(self, table: Table, rows: pa.Table) -> list[Written]:
        parts: list[Written] = []
        waiting: set[Future[Written]] = set()
        try:
            for part in self._parts(rows):
                if len(waiting) == self.settings.max_in_flight_requests:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    parts += [one.result() for one in done]
                waiting.add(self._pool.submit(self._deliver, table, part))
            return parts + [one.result() for one in waiting]
        finally:
            wait(waiting)

    def _parts(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Rows of about one request, by their number and their size in memory."""
        for start in range(0, rows.num_rows, self.settings.batch_size):
            part = rows.slice(start, self.settings.batch_size)
            pieces = max(1, -(-part.nbytes // self.settings.batch_bytes))
            step = -(-part.num_rows // pieces)
            for place in range(0, part.num_rows, step):
                yield part.slice(place, step)

    def _deliver(self, table: Table, rows: pa.Table) -> Written:
        places = self._rollover.places(table, rows) if self._rollover else None
        return self._carry(table, rows, places)

    def _carry(self, table: Table, rows: pa.Table, places: pl.DataFrame | None) -> Written:
        """Send rows, in halves where they are too large for one request."""
        done, parts = [], Bisect([range(rows.num_rows)])
        for part in parts:
            piece = (part.start, len(part))
            own, at = rows.slice(*piece), None if places is None else places.slice(*piece)
            made = lines(self.settings.index_prefix, table, own, at)
            if made.nbytes > self.settings.batch_bytes and parts.halve(part):
                del made
                continue
            done.append(self._request(table, own, made))
        return together(done)

    def _request(self, table: Table, rows: pa.Table, made: pa.LargeStringArray) -> Written:
        """Send `rows`, whose lines are `made`; those whose index is gone go to the newest one."""
        newest = self._rollover.newest(table) if self._rollover else None
        delivery = Delivery(self._connection, made, newest)
        delivery.deliver()
        done = _written(table, rows, delivery)
        if not (self._rollover and delivery.lost):
            return done
        lost = _at(rows, delivery.lost)
        return together([done, self._carry(table, lost, self._rollover.anew(table, lost))])

    def _none(self, table: Table, rows: pa.Table) -> Written:
        """Rows whose keys no document may have."""
        reason = f"its key is longer than the {self._longest} bytes it may have in an _id"
        return Written(0, 0, 0, refused(NAME, table, rows, [reason] * rows.num_rows))


_NAMES_OF_TELEMETRY = {table.name for table in TELEMETRY.values() if KEY in table.columns.names}


def _written(table: Table, rows: pa.Table, delivery: Delivery) -> Written:
    places = sorted(delivery.refused)
    reasons = [delivery.refused[place] for place in places]
    letters = refused(NAME, table, _at(rows, places), reasons)
    taken = rows.num_rows - len(places) - len(delivery.lost)
    return Written(taken, delivery.size, delivery.retries, letters)


def _at(rows: pa.Table, places: Iterable[int]) -> pa.Table:
    return rows.take(pa.array(np.array(sorted(places), np.int64)))
