"""How the state of vehicles is written into the operations database."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from connectors.operations_db.settings import DatabaseSettings
from connectors.retries import DeliverySettings
from connectors.settings import SecretReference


class StateSettings(DeliverySettings):
    """The tables `vehicle_state` and `device_state`. Without a `conninfo` (libpq, no password) they
    lie in the database of bindings_database. `batch_size` is rows a statement, `linger_ms` how long
    a job gathers them; a statement that waits for somebody's lock longer than
    `statement_timeout_s` is given up and tried again. A state that lies more than `ahead_s` in the
    database's future is taken for a wrong clock's and gives way to whatever comes next. A worker
    has one connection and one statement on its way: more would wait for one another's rows."""

    conninfo: str | None = None
    password: SecretReference | None = None
    batch_size: PositiveInt = 2_000
    linger_ms: PositiveInt = 1_000
    statement_timeout_s: float = Field(default=30, gt=0, le=86_400)
    ahead_s: float = Field(default=3_600, gt=0, le=366 * 86_400)

    @model_validator(mode="after")
    def _a_password_is_somebodys(self) -> StateSettings:
        if self.password is not None and self.conninfo is None:
            raise ValueError(
                "password without conninfo: give both, or neither for those of bindings_database"
            )
        return self

    def database(self, bindings_database: DatabaseSettings) -> DatabaseSettings:
        """The database to write to."""
        if self.conninfo is None:
            return bindings_database
        return DatabaseSettings(conninfo=self.conninfo, password=self.password)
