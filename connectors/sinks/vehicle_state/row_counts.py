"""How many vehicles and terminals have a state: for a look, not for a job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from connectors.operations_db.settings import DatabaseSettings
from connectors.sinks.vehicle_state.client import StateConnection
from connectors.sinks.vehicle_state.settings import StateSettings

TABLES = ("vehicle_state", "device_state")


def rows(settings: StateSettings, database: DatabaseSettings) -> Counter[str]:
    """Rows of the tables of state. Raises DependencyFailed."""
    connection = StateConnection(settings, database)
    try:
        return Counter({table: connection.transact(_counting(table)) for table in TABLES})
    finally:
        connection.close()


def _counting(table: str) -> Callable[[psycopg.Connection[Any]], int]:
    query = sql.SQL("select count(*) from {}").format(sql.Identifier(table))

    def count(connection: psycopg.Connection[Any]) -> int:
        (number,) = connection.execute(query).fetchone() or (0,)
        return int(number)

    return count
