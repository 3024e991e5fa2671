"""A connection to the database of state, and what each of its errors means to a writer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import psycopg

from connectors.errors import DependencyFailed
from connectors.operations_db.read import connect, describe
from connectors.operations_db.settings import DatabaseSettings
from connectors.retries import TransientError, with_retries
from connectors.sinks.vehicle_state.arrays import takes_arrays
from connectors.sinks.vehicle_state.settings import StateSettings

LOG = logging.getLogger(__name__)
Done = TypeVar("Done")
_TIMEOUT = "SELECT set_config('statement_timeout', %s, true)"
_READ_ONLY = "25006"
_LIMIT_EXCEEDED = "54"
_LIMITS_OF_ROWS = ("_bt_check_third_page", "index_form_tuple", "RelationGetBufferForTuple")
"""Where Postgres finds a row too large; messages are in the server's language. Other limits are
its own, such as that of transactions."""
_ADVICE = {
    "42501": "as an owner of the tables GRANT SELECT, INSERT, UPDATE ON vehicle_state, "
    "device_state TO the user of sinks.state",
    "42P01": "run `odograph database apply`",
    "42703": "run `odograph database apply`",
    "42704": "run `odograph database apply`",
    "3D000": "make the database, or name another in sinks.state.conninfo",
}
NOT_APPLIED = ("42P01", "42703", "42704")


class BadRow(Exception):
    """The database never takes some row of a statement: says why."""


class Refused(DependencyFailed):
    """The database answers, but does not do it: `sqlstate` says why."""

    def __init__(self, message: str, sqlstate: str | None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class StateConnection:
    """Opened at its first use and again when it was lost. It may lead through a transaction pooler:
    no transaction leaves anything in the session or needs what another left there, so nothing is
    prepared. `retries` counts repeated work."""

    def __init__(self, settings: StateSettings, database: DatabaseSettings) -> None:
        self.retries = 0
        self._settings = settings
        self._database = database
        self._open: psycopg.Connection[Any] | None = None

    def transact(self, work: Callable[[psycopg.Connection[Any]], Done]) -> Done:
        """Do `work` in one transaction, and again for as long as the database cannot do it now.
        Raises BadRow, DependencyFailed."""
        return with_retries(self._settings, lambda: self._once(work), self._counted)

    def close(self) -> None:
        """Let go of it."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _counted(self) -> None:
        self.retries += 1

    def _once(self, work: Callable[[psycopg.Connection[Any]], Done]) -> Done:
        try:
            connection = self._connected()
            with connection.transaction():
                connection.execute(_TIMEOUT, (f"{self._settings.statement_timeout_s * 1000:.0f}",))
                return work(connection)
        except psycopg.Error as error:
            self._explain(error)

    def _connected(self) -> psycopg.Connection[Any]:
        if self._open is None or self._open.closed:
            self._open = connect(self._database, autocommit=True, prepare_threshold=None)
            takes_arrays(self._open)
        return self._open

    def _explain(self, error: psycopg.Error) -> NoReturn:
        """Only the primary message is told: details quote rows."""
        state = error.sqlstate
        first = str(error).splitlines() or ["no reason given"]
        reason = error.diag.message_primary or first[0]
        if isinstance(error, psycopg.DataError | psycopg.IntegrityError) or (
            (state or "").startswith(_LIMIT_EXCEEDED)
            and (error.diag.source_function or "").startswith(_LIMITS_OF_ROWS)
        ):
            raise BadRow(reason) from None
        said = f"{describe(self._database)}: cannot write the state of vehicles: {reason}"
        if state == _READ_ONLY or (
            isinstance(error, psycopg.OperationalError) and state not in _ADVICE
        ):
            self.close()
            LOG.warning("%s; it is tried again", said)
            raise TransientError(said) from None
        advice = _ADVICE.get(state or "", "see the database's log")
        raise Refused(f"{said}; {advice}", state) from None
