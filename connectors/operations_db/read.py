"""The operations database: the tables `vehicle` and `device_binding` (operations.sql) as one
snapshot, as Arrow, without a Python object for each row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv
from psycopg import conninfo, pq

from connectors.errors import DependencyFailed
from connectors.operations_db.settings import DatabaseSettings
from connectors.settings import secret
from transforms.bindings import vehicles
from transforms.bindings.bindings import SCHEMA as BINDINGS

CHANNEL = "odograph_dimensions"
LOOK_BACK_MS = 3_600_000
_BLOCK_BYTES = 4 << 20
_CONNECTION: dict[str, Any] = {
    "application_name": "odograph",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
# Instants before the year 1 and after 9998 mean "ever"; no parser reads them all.
_BINDINGS = """
COPY (
    SELECT device_no, vehicle_id, greatest(valid_from, '0001-01-01 00:00:00+00'),
           CASE WHEN valid_to < '9999-01-01 00:00:00+00' THEN valid_to END,
           binding_version, msisdn
    FROM device_binding WHERE valid_from < '9999-01-01 00:00:00+00'
) TO STDOUT (FORMAT csv)
"""
_VEHICLES = f"COPY (SELECT {', '.join(vehicles.SCHEMA.names)} FROM vehicle) TO STDOUT (FORMAT csv)"
_VERSION = """
SELECT coalesce(floor(1000 * extract(epoch FROM greatest(
    (SELECT max(updated_at) FROM device_binding),
    (SELECT max(updated_at) FROM vehicle),
    (SELECT max(deleted_at) FROM dimension_deletion)))), 0)::bigint
"""
_CHANGES = " UNION ALL ".join(
    f"SELECT count(*), sum(extract(epoch FROM {column})) FROM {table} "
    f"WHERE {column} > to_timestamp(%(since)s / 1000.0)"
    for table, column in (
        ("device_binding", "updated_at"), ("vehicle", "updated_at"),
        ("dimension_deletion", "deleted_at"),
    )
)  # fmt: skip
_BINDING_ROWS = pa.schema([*BINDINGS, pa.field("msisdn", pa.string())])


@dataclass(frozen=True)
class Mark:
    """Tells whether the tables changed, without reading them: counts and sums of the times of all
    changes after `since_ms`, for each table. `since_ms` is an hour before the newest change,
    because a transaction that began earlier may commit later."""

    since_ms: int
    changes: tuple[tuple[int, Decimal | None], ...]


@dataclass(frozen=True, repr=False)
class Contents:
    """Both tables at one instant: `bindings` with the columns of `bindings.SCHEMA`, `phones`
    (phone number of a CSA terminal -> device_no; None where no binding has a phone number),
    `vehicles` with the columns of `vehicles.SCHEMA`. `version_ms` is the time of the newest change,
    UTC epoch ms, 0 without any."""

    bindings: pa.Table
    phones: dict[str, str] | None
    vehicles: pa.Table
    version_ms: int
    mark: Mark


def describe(settings: DatabaseSettings) -> str:
    """Name and host of the database, for messages. Raises DependencyFailed without a conninfo."""
    parts = _parameters(settings)
    host = parts.get("host") or parts.get("hostaddr") or "the local socket"
    port = f":{parts['port']}" if "port" in parts else ""
    return f"operations database {parts.get('dbname', '(default)')} at {host}{port}"


def connect(settings: DatabaseSettings, **options: Any) -> psycopg.Connection[Any]:
    """A connection. Raises psycopg.OperationalError, MissingSecret, DependencyFailed (no conninfo).
    The password is looked up every time, so that it may be changed while a job runs."""
    parameters = {**_CONNECTION, **_parameters(settings)}
    if settings.password is not None:
        parameters["password"] = secret(settings.password)
    return psycopg.connect(**{**parameters, "client_encoding": "UTF8"}, **options)


@contextmanager
def failing(settings: DatabaseSettings, doing: str, advice: str) -> Iterator[None]:
    """Turn database errors into DependencyFailed. It quotes the primary message only: details and
    context quote rows, and rows hold number plates."""
    try:
        yield
    except psycopg.Error as error:
        reason = error.diag.message_primary or (str(error).splitlines() or ["no reason given"])[0]
        message = f"{describe(settings)}: cannot {doing}: {reason}; {advice}"
        raise DependencyFailed(message) from None


def read(settings: DatabaseSettings) -> Contents:
    """Both tables, read in one REPEATABLE READ transaction. Raises DependencyFailed when the
    database is away, lacks the tables, or holds no binding at all."""
    advice = (
        "see that it runs, that bindings_database says how to reach it, and that "
        "`odograph database apply` was run"
    )
    with failing(settings, "read vehicle and device_binding", advice), _snapshot(settings) as open_:
        version_ms = int(open_.execute(_VERSION).fetchall()[0][0])
        mark = _mark(open_, version_ms - LOOK_BACK_MS)
        rows = _copy(open_, _BINDINGS, _BINDING_ROWS, settings)
        if not rows.num_rows:
            raise DependencyFailed(
                f"{describe(settings)}: table device_binding is empty, and a job never runs on no "
                "binding; fill it (`odograph database load --bindings FILE`)"
            )
        phones = _phones(rows)
        rows = rows.select(BINDINGS.names)
        return Contents(
            rows, phones, _copy(open_, _VEHICLES, vehicles.SCHEMA, settings), version_ms, mark
        )


def unchanged(settings: DatabaseSettings, mark: Mark) -> bool:
    """Whether the tables are as they were at `mark`. Changes of a transaction that took more than
    an hour are overlooked (NOTIFY announces them). Raises DependencyFailed."""
    advice = "the last snapshot stays in use"
    with failing(settings, "look for changes", advice), _snapshot(settings) as open_:
        return _mark(open_, mark.since_ms) == mark


@contextmanager
def _snapshot(settings: DatabaseSettings) -> Iterator[psycopg.Connection[Any]]:
    with connect(settings) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute("SET LOCAL timezone = 'UTC'")
        connection.execute("SET LOCAL datestyle = 'ISO'")
        yield connection


def _mark(open_: psycopg.Connection[Any], since_ms: int) -> Mark:
    rows = open_.execute(_CHANGES, {"since": since_ms}).fetchall()
    return Mark(since_ms, tuple((int(count), total) for count, total in rows))


def _copy(
    open_: psycopg.Connection[Any], query: str, schema: pa.Schema, settings: DatabaseSettings
) -> pa.Table:
    """The rows of a COPY … TO STDOUT in csv, block by block."""
    options = {
        "read_options": pa_csv.ReadOptions(column_names=schema.names, use_threads=False),
        "parse_options": pa_csv.ParseOptions(newlines_in_values=True),
        "convert_options": pa_csv.ConvertOptions(
            column_types={
                field.name: pa.timestamp("us", "UTC")
                if pa.types.is_timestamp(field.type)
                else field.type
                for field in schema
            },
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    }
    tables = [schema.empty_table()]
    try:
        for block in _blocks(open_, query):
            table = pa_csv.read_csv(pa.py_buffer(block), **options)
            tables.append(table.cast(schema, safe=False))
    except pa.ArrowInvalid:
        # Arrow's message quotes the row.
        raise DependencyFailed(
            f"{describe(settings)}: a row of {schema.names} is not what the tables of "
            "`odograph database apply` can hold; compare their columns with "
            "connectors/operations_db/operations.sql"
        ) from None
    return pa.concat_tables(tables)


def _blocks(open_: psycopg.Connection[Any], query: str) -> Iterator[bytes]:
    """Whole rows, some megabytes at a time. libpq itself is asked: a row costs a third of what it
    costs through psycopg's Copy, and this runs beside a job."""
    low = open_.pgconn
    result = low.exec_(query.encode())
    if result.status != pq.ExecStatus.COPY_OUT:
        raise psycopg.errors.error_from_result(result)
    rows: list[bytes] = []
    size = 0
    while True:
        length, row = low.get_copy_data(0)
        if length < 0:
            break
        rows.append(bytes(row))
        size += length
        if size >= _BLOCK_BYTES:
            yield b"".join(rows)
            rows, size = [], 0
    if rows:
        yield b"".join(rows)
    while (end := low.get_result()) is not None:
        if end.status != pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(end)


def _phones(rows: pa.Table) -> dict[str, str] | None:
    """Phone number -> device_no; the newest binding counts where a number moved to another
    terminal. None where no binding has a phone number."""
    known = rows.filter(rows["msisdn"].is_valid()).select(["msisdn", "device_no", "valid_from"])
    if not known.num_rows:
        return None
    known = known.sort_by([("valid_from", "ascending"), ("device_no", "ascending")])
    pairs = zip(known["msisdn"].to_pylist(), known["device_no"].to_pylist(), strict=True)
    return dict(pairs)


def _parameters(settings: DatabaseSettings) -> dict[str, Any]:
    if settings.conninfo is None:
        raise DependencyFailed(
            "no operations database is named: set bindings_database.conninfo, such as "
            "host=db.example dbname=fleet user=odograph"
        )
    try:
        return dict(conninfo.conninfo_to_dict(settings.conninfo))
    except psycopg.ProgrammingError:
        raise DependencyFailed(
            "bindings_database.conninfo is no libpq connection string, such as "
            "host=db.example dbname=fleet user=odograph"
        ) from None
