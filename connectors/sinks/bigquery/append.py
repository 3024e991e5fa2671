"""Rows into the default stream of a table: kept, refused, or appended again until one of both."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from connectors.errors import DependencyFailed
from connectors.retries import TransientError, with_retries
from connectors.sinks.bigquery.append_stream import Broken, Connection, request
from connectors.sinks.bigquery.errors import Answer
from connectors.sinks.bigquery.settings import LARGEST_APPEND, BigQuerySettings
from connectors.sinks.bisect import Bisect, Doubt, NoneKept

COMPARE = "compare the table's columns with connectors/sinks/tables.py"


@dataclass(frozen=True)
class Part:
    """Rows of one request; `places` are their numbers among those given."""

    batch: pa.RecordBatch
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: slice) -> Part:
        return Part(self.batch[rows], self.places[rows])

    def without(self, rows: set[int]) -> Part:
        """The part without its rows of these numbers."""
        kept = np.setdiff1d(np.arange(len(self.places)), np.fromiter(rows, np.int64))
        return Part(self.batch.take(pa.array(kept)), self.places[kept])


class Append:
    """One write to one table. `connection` gives an open one, `lost` takes a broken one back,
    `ensure` makes the table and its columns again, `doubt` is what earlier writes left."""

    def __init__(
        self,
        settings: BigQuerySettings,
        place: str,
        connection: Callable[[], Connection],
        lost: Callable[[], None],
        ensure: Callable[[], None],
        doubt: Doubt,
    ) -> None:
        self.settings, self.place, self.doubt = settings, place, doubt
        self.connection, self.lost, self.ensure = connection, lost, ensure
        self.size = self.retries = 0
        self.refused: dict[int, str] = {}
        self._waiting: Bisect[Part] = Bisect()
        self._sent: deque[tuple[Part, int]] = deque()
        self._setback: TransientError | None = None

    @property
    def kept(self) -> int:
        """Rows that the store has."""
        return self._waiting.kept

    def write(self, batch: pa.RecordBatch) -> None:
        """Until every row of `batch` is kept or in `refused`. Raises DependencyFailed."""
        self._waiting = Bisect(self._parts(batch), self.doubt)
        while self._waiting:
            with_retries(self.settings, self._round, self._count_retry)
        if self.kept:
            self.doubt.rows = 0
        elif self.doubt.rows:
            self.ensure()

    def _parts(self, batch: pa.RecordBatch) -> list[Part]:
        rows = batch.num_rows
        each = max(1, batch.nbytes // max(1, rows))
        step = max(1, min(self.settings.batch_size, self.settings.batch_bytes // each))
        return [
            Part(batch.slice(start, step), np.arange(start, min(rows, start + step)))
            for start in range(0, rows, step)
        ]

    def _count_retry(self) -> None:
        self.retries += 1

    def _round(self) -> None:
        """Send what waits, take every answer. What is left to do then is waiting: raises
        TransientError where nothing came of it, so that patience lasts from one step forward to the
        next."""
        self._wait_after_setback()
        before, trouble = self._done, self._exchanged()
        if trouble is None:
            return
        self.lost()
        if trouble.meaning == "bad request" and self._done > before:
            return
        setback = self._mended(trouble)
        if self._done == before:
            raise setback
        self._setback = setback

    def _wait_after_setback(self) -> None:
        setback, self._setback = self._setback, None
        if setback:
            raise setback

    @property
    def _done(self) -> int:
        """Grows with each row that is kept or refused, and each request that is cut."""
        return self.kept + len(self.refused) + self._waiting.halved

    def _exchanged(self) -> Answer | None:
        """Send and take until nothing waits, or until what is returned must be mended first."""
        trouble: Answer | None = None
        try:
            connection = self.connection()
            while self._sent or (self._waiting and not trouble):
                while not trouble and self._waiting and self._may_send():
                    self._send(connection)
                if self._sent:
                    trouble = self._take(connection) or trouble
        except Broken as error:
            trouble = error.answer
            self._take_back(trouble)
        return trouble

    def _may_send(self) -> bool:
        return len(self._sent) < self.settings.max_in_flight_requests

    def _send(self, connection: Connection) -> None:
        part = self._waiting.take()
        data = request(connection.stream, part.batch, not connection.schema_known)
        if len(data) <= LARGEST_APPEND:
            connection.send(data)
            self._sent.append((part, len(data)))
        elif not self._waiting.halve(part):
            reason = f"the row has {len(data)} bytes, an append at most {LARGEST_APPEND}"
            self.refused[int(part.places[0])] = reason

    def _take(self, connection: Connection) -> Answer | None:
        """Read one answer; what it says is returned where nothing can go on before it is mended."""
        answer = connection.answer(self.settings.request_timeout_s)
        part, size = self._sent.popleft()
        if answer.meaning == "kept":
            self._waiting.kept += len(part)
            self.size += size
            return None
        if answer.meaning == "bad rows":
            self._refuse(part, answer.rows)
            return None
        if answer.meaning == "bad request":
            self._narrow(part, answer)
            return None
        self._waiting.put_back(part)
        return answer

    def _take_back(self, answer: Answer) -> None:
        """What has no answer is sent again; the oldest of it is what a bad request was about."""
        parts = [part for part, _ in self._sent]
        self._sent.clear()
        if answer.meaning == "bad request" and parts:
            self._waiting.put_back(*parts[1:])
            self._narrow(parts[0], answer)
        else:
            self._waiting.put_back(*parts)

    def _refuse(self, part: Part, reasons: dict[int, str]) -> None:
        self.retries += 1
        for row, reason in reasons.items():
            self.refused[int(part.places[row])] = reason
        rest = part.without(set(reasons))
        if len(rest.places):
            self._waiting.put_back(rest)

    def _narrow(self, part: Part, answer: Answer) -> None:
        """A request is bad and no row was named: find the row by halves."""
        self.retries += 1
        try:
            if not self._waiting.refused(part, unanswered=bool(self._sent)):
                self.refused[int(part.places[0])] = answer.words
        except NoneKept as error:
            raise DependencyFailed(
                f"BigQuery {self.place}: {error}, and none was named as bad: {answer.words}; "
                f"{COMPARE}"
            ) from None

    def _mended(self, answer: Answer) -> TransientError:
        """What can be done about it is done; why to wait."""
        if answer.meaning == "denied":
            raise DependencyFailed(
                f"BigQuery {self.place}: appending is not allowed: {answer.words}; grant "
                "bigquery.tables.updateData and bigquery.tables.get (BigQuery Data Editor)"
            )
        if answer.meaning in ("no table", "old schema"):
            self.ensure()
        return TransientError(f"BigQuery {self.place}: append: {answer.words}")
