"""Settings: how the operations database is reached, and how often it is read."""

from __future__ import annotations

from pydantic import PositiveFloat

from connectors.settings import SecretReference, Section


class DatabaseSettings(Section):
    """The operations database. `conninfo` is a libpq connection string without a password; it is
    read again every `refresh_s` and on NOTIFY; a snapshot older than `max_age_s` stops the job."""

    conninfo: str | None = None
    password: SecretReference | None = None
    refresh_s: PositiveFloat = 60
    max_age_s: PositiveFloat = 3600
