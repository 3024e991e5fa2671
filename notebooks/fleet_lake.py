"""One day of a lake as DuckDB views, one a table, whether the lake has the table or not."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb

from connectors.lake.read import duckdb_source
from connectors.storage.folder import folder as open_folder
from connectors.storage.settings import S3Settings
from schemas import MESSAGE_TYPES
from schemas.arrow import record_schema, telemetry_schema

RECENT_DAYS = 7
TABLES = {
    "vehicle_minutes": record_schema("vehicle_minute"),
    "dead_letters": record_schema("dead_letter"),
    **{f"telemetry_{name}": telemetry_schema(name) for name in MESSAGE_TYPES},
}
SHARED = (
    "device_no, vehicle_id, event_time, device_time, time_source, quality_flags, binding_status"
)


class Day:
    """A connection whose views `vehicle_minutes`, `dead_letters`, `telemetry_<type>` hold one day.

    `telemetry` is what all telemetry tables share. Every view also has `date` and `hour`, both in
    the fleet's zone. `date` is None where the lake holds nothing at all.
    """

    def __init__(self, lake: str, zone: str, day: str | None = None) -> None:
        """Open `day` (ISO), or the fullest of the lake's last days.

        Raises FileNotFoundError where there is no such folder, ValueError for a day that is none.
        """
        self.lake = Path(lake)
        if not self.lake.is_dir():
            raise FileNotFoundError(f"there is no lake at {lake}")
        self.connection = duckdb.connect()
        self.connection.execute("set timezone = ?", [zone])
        self.date = date.fromisoformat(day) if day else self._fullest_day()
        for table in TABLES:
            self._make_view(table)
        parts = (f"select {SHARED} from telemetry_{name}" for name in MESSAGE_TYPES)
        self.connection.execute(f"create view telemetry as {' union all '.join(parts)}")

    def rows(self, query: str, *values: object) -> list[tuple]:
        """All rows of a query; keep it an aggregate."""
        return self.connection.execute(query, list(values)).fetchall()

    def row(self, query: str, *values: object) -> tuple:
        """The only row of a query."""
        (only,) = self.rows(query, *values)
        return only

    def columns(self, query: str, *values: object) -> dict:
        """The columns of a query as numpy arrays."""
        return self.connection.execute(query, list(values)).fetchnumpy()

    def _fullest_day(self) -> date | None:
        present = [table for table in TABLES if self._has(table)]
        if not present:
            return None
        table = present[0]
        days = sorted({_date_of(path) for path in (self.lake / table).glob("date=*")})
        counted = [
            (self.row(f"select count(*) from {self._day_of(table, one)}")[0], one)
            for one in days[-RECENT_DAYS:]
        ]
        return max(counted)[1]

    def _make_view(self, table: str) -> None:
        if self.date is not None and self._has(table, self.date):
            source = self._day_of(table, self.date)
        else:
            empty = TABLES[table].empty_table()
            self.connection.register(f"empty_{table}", empty)
            source = f"(select *, null::date as date, null::int as hour from empty_{table})"
        self.connection.execute(f"create view {table} as select * from {source}")

    def _has(self, table: str, day: date | None = None) -> bool:
        folder = f"date={day}" if day else "date=*"
        return next((self.lake / table).glob(f"{folder}/*/*.parquet"), None) is not None

    def _day_of(self, table: str, day: date) -> str:
        return duckdb_source(open_folder(str(self.lake), S3Settings()), table, day)


def _date_of(folder: Path) -> date:
    return date.fromisoformat(folder.name.removeprefix("date="))
