"""A database of its own for each test, on the real Postgres."""

import itertools
import time
from dataclasses import dataclass

import psycopg

from connectors.operations_db.settings import DatabaseSettings
from connectors.operations_db.tables import apply
from runners.stack.servers.postgres import Postgres

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Database:
    """An empty database of `server`."""

    server: Postgres
    name: str

    def settings(self, **given) -> DatabaseSettings:
        address = self.server.address.replace("dbname=fleet", f"dbname={self.name}")
        password = f"file:{self.server.password_file}"
        return DatabaseSettings(conninfo=address, password=password, **given)

    def connect(self):
        conninfo = self.server.conninfo.replace("dbname=fleet", f"dbname={self.name}")
        return psycopg.connect(conninfo, autocommit=True)

    def run(self, *statements):
        """Statements in one transaction; the rows of the last one, if it has any."""
        with self.connect() as connection, connection.transaction():
            for statement in statements:
                found = connection.execute(statement)
            return found.fetchall() if found.description else []


def new_database(server: Postgres, tables: bool = True) -> Database:
    """A database no other test knows, with our tables or without."""
    database = Database(server, f"fleet{next(_numbers)}")
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute(f"create database {database.name}")
    if tables:
        apply(database.settings())
    return database


def bind(device_no="0001", vehicle_id="V1", since="2024-01-15", until=None, version=1) -> str:
    """The statement that binds a terminal."""
    end = "NULL" if until is None else f"'{until}+00'"
    begin = since if "infinity" in since else f"{since}+00"
    return (
        "INSERT INTO device_binding (device_no, vehicle_id, valid_from, valid_to, binding_version)"
        f" VALUES ('{device_no}', '{vehicle_id}', '{begin}', {end}, {version})"
    )


def register(vehicle_id="V1", plate_no="12가3456", **given) -> str:
    """The statement that adds a vehicle."""
    values = {"vehicle_id": vehicle_id, "plate_no": plate_no, "model_name": "RAY"} | given
    texts = ", ".join("'" + str(value).replace("'", "''") + "'" for value in values.values())
    return f"INSERT INTO vehicle ({', '.join(values)}) VALUES ({texts})"


def until(true, seconds=60.0):
    """Wait until `true()`; its result. Fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.02)
    return found
