"""The newest of each vehicle and terminal in the operations database: the tables `vehicle_state`
and `device_state` (docs/sinks/vehicle_state.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import pyarrow as pa

from connectors.errors import BadSettings
from connectors.operations_db.settings import DatabaseSettings
from connectors.sinks.bisect import Bisect
from connectors.sinks.contract import Written
from connectors.sinks.refused_rows import refused
from connectors.sinks.tables import TELEMETRY, Table
from connectors.sinks.vehicle_state.arrays import postgres_array
from connectors.sinks.vehicle_state.client import NOT_APPLIED, BadRow, Refused, StateConnection
from connectors.sinks.vehicle_state.columns import KINDS
from connectors.sinks.vehicle_state.newest import Choice, newest
from connectors.sinks.vehicle_state.settings import StateSettings
from connectors.sinks.vehicle_state.statements import look, upsert
from connectors.sinks.vehicle_state.tables import apply_state
from connectors.sinks.vehicle_state.take_back import take_back
from transforms.facts.vehicle_state import standing


class StateStore:
    """A `contract.Sink` of telemetry tables. A row that is not the newest of its vehicle or
    terminal counts as written: the database has something newer."""

    def __init__(self, settings: StateSettings, bindings_database: DatabaseSettings) -> None:
        self._settings = settings
        self._database = settings.database(bindings_database)
        self._connection = StateConnection(settings, self._database)
        self._size = 0

    def prepare(self, tables: Sequence[Table]) -> None:
        """Make the tables of state where they are missing. Raises DependencyFailed, BadSettings for
        a table that no state can be made of."""
        for table in tables:
            _require_telemetry(table)
        try:
            self._connection.transact(_look)
        except Refused as error:
            if error.sqlstate not in NOT_APPLIED:
                raise
            apply_state(self._database)
            self._connection.transact(_look)

    def write(self, table: Table, rows: pa.Table) -> Written:
        """Bring the rows in where they are the newest. Raises DependencyFailed."""
        _require_telemetry(table)
        before, self._size = self._connection.retries, 0
        bad = self._deliver(standing(rows))
        never = pa.concat_tables([rows.slice(0, 0), *(row for row, _ in bad)])
        letters = refused("state", table, never, [reason for _, reason in bad])
        retries = self._connection.retries - before
        return Written(rows.num_rows - len(bad), self._size, retries, letters)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _deliver(self, rows: pa.Table) -> list[tuple[pa.Table, str]]:
        """Bring rows in. The rows that are bad, each with why: none keeps the others back."""
        bad, parts = [], Bisect([rows])
        for part in parts:
            try:
                self._transact(part)
            except BadRow as error:
                if not parts.halve(part):
                    bad.append((part, str(error)))
        return bad

    def _transact(self, rows: pa.Table) -> None:
        choices = [newest(kind, rows) for kind in KINDS]
        if any(choice.rounds for choice in choices):
            self._connection.transact(lambda connection: self._bring(connection, rows, choices))

    def _bring(
        self, connection: psycopg.Connection[Any], rows: pa.Table, choices: list[Choice]
    ) -> None:
        for choice in choices:
            take_back(connection, choice.kind, rows, choice.keys)
            statement = upsert(choice.kind, choice.groups, self._settings.ahead_s)
            for chosen in choice.rounds:
                for start in range(0, chosen.num_rows, self._settings.batch_size):
                    part = chosen.slice(start, self._settings.batch_size)
                    arrays = [postgres_array(column) for column in part.columns]
                    self._size += sum(len(array.data) for array in arrays)
                    connection.execute(statement, arrays)


def _look(connection: psycopg.Connection[Any]) -> None:
    for kind in KINDS:
        connection.execute(look(kind))


def _require_telemetry(table: Table) -> None:
    if TELEMETRY.get(table.name.removeprefix("telemetry_")) is not table:
        raise BadSettings(
            f"sinks.state: no state of vehicles is made of table {table.name}; it takes "
            f"{[table.name for table in TELEMETRY.values()]}"
        )
