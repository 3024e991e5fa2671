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

UNNAMED = 8
"""So many single rows may be refused without a kept one before the request itself is doubted, in
one write or in several."""
DOUBTED = 32
"""So many requests more are refused then, the largest that wait first, before it is said: bad rows
lie side by side, good ones elsewhere."""


@dataclass
class Doubt:
    """About requests to a table: `unnamed` single rows were refused and not named as bad since a
    row was kept."""

    unnamed: int = 0


@dataclass(frozen=True)
class Part:
    """Rows of one request; `places` are their numbers among those given."""

    batch: pa.RecordBatch
    places: np.ndarray

    def halves(self) -> list[Part]:
        """Two parts, the first rows first."""
        middle = len(self.places) // 2
        return [
            Part(self.batch.slice(0, middle), self.places[:middle]),
            Part(self.batch.slice(middle), self.places[middle:]),
        ]

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
        self.kept = self.size = self.retries = 0
        self.refused: dict[int, str] = {}
        self._waiting: deque[Part] = deque()
        self._sent: deque[tuple[Part, int]] = deque()
        self._splits = self._in_vain = 0
        self._setback: TransientError | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Until every row of `batch` is kept or in `refused`. Raises DependencyFailed."""
        self._waiting.extend(self._parts(batch))
        while self._waiting:
            with_retries(self.settings, self._round, self._told)
        if self.kept:
            self.doubt.unnamed = 0
        elif self.doubt.unnamed:
            self.ensure()

    def _parts(self, batch: pa.RecordBatch) -> list[Part]:
        rows = batch.num_rows
        each = max(1, batch.nbytes // max(1, rows))
        step = max(1, min(self.settings.batch_size, self.settings.batch_bytes // each))
        return [
            Part(batch.slice(start, step), np.arange(start, min(rows, start + step)))
            for start in range(0, rows, step)
        ]

    def _told(self) -> None:
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
        return self.kept + len(self.refused) + self._splits

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
        part = self._waiting.popleft()
        data = request(connection.stream, part.batch, not connection.schema_known)
        if len(data) <= LARGEST_APPEND:
            connection.send(data)
            self._sent.append((part, len(data)))
        elif len(part.places) > 1:
            self._halve(part)
        else:
            reason = f"the row has {len(data)} bytes, an append at most {LARGEST_APPEND}"
            self.refused[int(part.places[0])] = reason

    def _take(self, connection: Connection) -> Answer | None:
        """Read one answer; what it says is returned where nothing can go on before it is mended."""
        answer = connection.answer(self.settings.request_timeout_s)
        part, size = self._sent.popleft()
        if answer.meaning == "kept":
            self.kept += len(part.places)
            self.size += size
            return None
        if answer.meaning == "bad rows":
            self._refuse(part, answer.rows)
            return None
        if answer.meaning == "bad request":
            self._narrow(part, answer)
            return None
        self._waiting.appendleft(part)
        return answer

    def _take_back(self, answer: Answer) -> None:
        """What has no answer is sent again; the oldest of it is what a bad request was about."""
        parts = [part for part, _ in self._sent]
        self._sent.clear()
        if answer.meaning == "bad request" and parts:
            self._waiting.extendleft(reversed(parts[1:]))
            self._narrow(parts[0], answer)
        else:
            self._waiting.extendleft(reversed(parts))

    def _refuse(self, part: Part, reasons: dict[int, str]) -> None:
        self.retries += 1
        for row, reason in reasons.items():
            self.refused[int(part.places[row])] = reason
        rest = part.without(set(reasons))
        if len(rest.places):
            self._waiting.appendleft(rest)

    def _narrow(self, part: Part, answer: Answer) -> None:
        """A request is bad and no row was named: find the row by halves."""
        self.retries += 1
        if len(part.places) > 1:
            self._halve(part)
        else:
            self.refused[int(part.places[0])] = answer.words
            self.doubt.unnamed += 1
        if self.doubt.unnamed >= UNNAMED and not self.kept:
            self._look_elsewhere(answer)

    def _look_elsewhere(self, answer: Answer) -> None:
        self._in_vain += 1
        if self._in_vain > DOUBTED or not (self._waiting or self._sent):
            raise DependencyFailed(
                f"BigQuery {self.place}: {self.doubt.unnamed} rows were refused, none was kept, "
                f"and none was named as bad: {answer.words}; compare the table's columns with "
                "connectors/sinks/tables.py"
            )
        by_size = sorted(self._waiting, key=lambda part: len(part.places), reverse=True)
        self._waiting = deque(by_size)

    def _halve(self, part: Part) -> None:
        self._splits += 1
        self._waiting.extendleft(reversed(part.halves()))

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
