"""The tables of the newest of each vehicle and terminal, in the operations database."""

from __future__ import annotations

from importlib import resources

from connectors.operations_db.settings import DatabaseSettings
from connectors.operations_db.tables import run_sql


def apply_state(settings: DatabaseSettings) -> None:
    """Make them; where they are, nothing changes. Raises DependencyFailed."""
    file = resources.files(__package__).joinpath("state.sql")
    run_sql(settings, file, "the right to create tables and types")
