"""Creates the tables of the operations database and fills them from files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from connectors.operations_db.bindings_file import BadBindings
from connectors.operations_db.read import connect, failing
from connectors.operations_db.settings import DatabaseSettings
from transforms.bindings.bindings import AMBIGUOUS, SCHEMA, Bindings

ROWS_A_BLOCK = 50_000
VEHICLE_TYPES = {
    "vehicle_id": pa.string(),
    "plate_no": pa.string(),
    "vin": pa.string(),
    "model_name": pa.string(),
    "model_year": pa.int32(),
    "fuel_type": pa.string(),
    "fuel_tank_l": pa.float32(),
    "battery_kwh": pa.float32(),
    "region_code": pa.string(),
    "zone_id": pa.string(),
    "fleet_status": pa.string(),
    "is_deleted": pa.bool_(),
}
VEHICLE_REQUIRED = ("vehicle_id", "plate_no", "model_name")
_DEFAULTS = {"fuel_type": "UNKNOWN", "fleet_status": "AVAILABLE", "is_deleted": False}
_APPLY_LOCK = 0x0D06
_SAME = "b.device_no = i.device_no AND b.valid_from = i.valid_from"
_EQUAL = f"""{_SAME} AND b.vehicle_id = i.vehicle_id AND b.valid_to IS NOT DISTINCT FROM i.valid_to
AND b.binding_version = i.binding_version AND b.msisdn IS NOT DISTINCT FROM i.msisdn"""
_REPLACE_BINDINGS = (
    "CREATE INDEX ON incoming (device_no, valid_from)",
    "ANALYZE incoming",
    f"""DELETE FROM device_binding b WHERE device_no IN (SELECT device_no FROM incoming)
    AND NOT EXISTS (SELECT FROM incoming i WHERE {_EQUAL})""",
    f"""INSERT INTO device_binding
    (device_no, vehicle_id, valid_from, valid_to, binding_version, msisdn)
    SELECT * FROM incoming i WHERE NOT EXISTS (SELECT FROM device_binding b WHERE {_SAME})""",
)


@dataclass(frozen=True)
class Loaded:
    """Counts of a load: rows of device_binding removed (`removed`) and written (`bindings`), rows
    of vehicle written (`vehicles`), and intervals left out because two vehicles claim them."""

    removed: int
    bindings: int
    vehicles: int
    ambiguous: int


def apply(settings: DatabaseSettings) -> None:
    """Create the tables of vehicles and bindings with their constraints and triggers; nothing
    changes where they exist. Raises DependencyFailed."""
    file = resources.files(__package__).joinpath("operations.sql")
    run_sql(settings, file, "the right to create tables and the extension btree_gist")


def run_sql(settings: DatabaseSettings, file: Traversable, right: str) -> None:
    """Run the statements of an SQL file that creates tables, in one transaction; `right` names the
    right that the user needs, for messages. Raises DependencyFailed."""
    statements = file.read_text("utf-8")
    advice = f"the user needs {right}"
    with failing(settings, "make the tables", advice), connect(settings) as connection:
        connection.execute("SET LOCAL client_min_messages = warning")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_APPLY_LOCK,))
        connection.execute(statements)


def load(
    settings: DatabaseSettings,
    bindings: pa.Table,
    vehicles: pa.Table,
    made_up: bool,
    ambiguous_as_unbound: bool,
) -> Loaded:
    """Load bindings and vehicles in one transaction. Terminals named in `bindings` (as
    `bindings_file.bindings_table` gives them) get exactly these rows, other terminals keep theirs.
    `vehicles` (columns of `VEHICLE_TYPES`) are added or changed, with `made_up` only added. Rows
    that are equal already are not written, so a second load changes nothing.

    The tables cannot hold two vehicles for a terminal at one instant. Raises BadBindings for such
    rows; with `ambiguous_as_unbound` those intervals are left out. Raises DependencyFailed."""
    rows, ambiguous = exclusive(bindings)
    if ambiguous and not ambiguous_as_unbound:
        raise BadBindings(_claimed(bindings, ambiguous))
    advice = "nothing was changed; see that it runs and that `odograph database apply` was run"
    with failing(settings, "load the tables", advice), connect(settings) as connection:
        connection.execute("SET LOCAL timezone = 'UTC'")
        changed = _replace_vehicles(connection, vehicles, made_up)
        connection.execute(
            "CREATE TEMP TABLE incoming (device_no text, vehicle_id text, valid_from timestamptz, "
            "valid_to timestamptz, binding_version bigint, msisdn text) ON COMMIT DROP"
        )
        _copy_in(connection, "incoming", rows)
        removed, written = [connection.execute(s).rowcount for s in _REPLACE_BINDINGS][-2:]
    return Loaded(removed, written, changed, ambiguous)


def exclusive(bindings: pa.Table) -> tuple[pa.Table, int]:
    """The rows of a bindings file as rows that never overlap, by the rules of `Bindings` (the
    highest version of an interval counts), with the columns of `SCHEMA` and msisdn; and how many
    intervals were left out because two vehicles claim them."""
    resolved = Bindings.from_table(bindings)
    terminal = np.repeat(np.arange(resolved.terminals), np.diff(resolved.first))
    follows = np.append(terminal[1:] == terminal[:-1], False)
    until = np.where(follows, np.append(resolved.change_ms[1:], 0), 0)
    bound = np.flatnonzero(resolved.vehicle >= 0)
    device_no = pa.array([name.decode() for name in resolved.names.tolist()], pa.string())
    instants = pa.timestamp("ms", "UTC")
    rows = pa.table(
        [
            device_no.take(pa.array(terminal[bound])),
            resolved.vehicles.take(pa.array(resolved.vehicle[bound])),
            pa.array(resolved.change_ms[bound]).cast(instants),
            pa.array(until[bound], mask=~follows[bound]).cast(instants),
            pa.array(resolved.version[bound]),
        ],
        SCHEMA,
    )
    phones = pa.nulls(rows.num_rows, pa.string())
    if "msisdn" in bindings.column_names:
        with_phone = bindings.filter(bindings["msisdn"].is_valid())
        known = dict(
            zip(with_phone["device_no"].to_pylist(), with_phone["msisdn"].to_pylist(), strict=True)
        )
        phones = pa.array([known.get(name) for name in rows["device_no"].to_pylist()], pa.string())
    return rows.append_column("msisdn", phones), int((resolved.vehicle == AMBIGUOUS).sum())


def read_vehicles(data: bytes | pa.Buffer, path: str) -> pa.Table:
    """Vehicles from a CSV file with the columns of `VEHICLE_TYPES`, of which `VEHICLE_REQUIRED` are
    required. Raises BadBindings without quoting the row, which holds a number plate."""
    options = pa_csv.ConvertOptions(
        column_types=VEHICLE_TYPES, strings_can_be_null=True, null_values=[""]
    )
    try:
        table = pa_csv.read_csv(io.BytesIO(data), convert_options=options)
    except pa.ArrowInvalid:
        raise BadBindings(
            f"vehicles file {path} cannot be read: not UTF-8 CSV with a head line, or one of "
            "model_year, fuel_tank_l, battery_kwh is no number, or is_deleted not true or false"
        ) from None
    missing = [name for name in VEHICLE_REQUIRED if name not in table.column_names]
    if missing:
        raise BadBindings(f"vehicles file {path} lacks {missing}; it has {table.column_names}")
    for name in VEHICLE_REQUIRED:
        if table[name].null_count:
            row = pc.index(table[name].is_null(), True).as_py()
            raise BadBindings(f"vehicles file {path}: {name} is empty in row {row + 1}")
    table = table.select([name for name in VEHICLE_TYPES if name in table.column_names])
    counts = pc.value_counts(table["vehicle_id"])
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise BadBindings(f"vehicles file {path}: vehicle {twice[0]['values']} is there twice")
    return table


def _claimed(bindings: pa.Table, ambiguous: int) -> str:
    resolved = Bindings.from_table(bindings)
    change = int(np.flatnonzero(resolved.vehicle == AMBIGUOUS)[0])
    terminal = int(np.searchsorted(resolved.first, change, side="right")) - 1
    moment = np.datetime64(int(resolved.change_ms[change]), "ms")
    return (
        f"bindings: at {ambiguous} instants a second vehicle claims a terminal, first "
        f"{resolved.names[terminal].decode()} from {moment}Z on, and the table refuses overlaps; "
        "correct the file, or leave those intervals unbound with --ambiguous-as-unbound"
    )


def _replace_vehicles(
    connection: psycopg.Connection[Any], vehicles: pa.Table, made_up: bool
) -> int:
    names = vehicles.column_names
    for name, default in _DEFAULTS.items():
        if name in names and vehicles[name].null_count:
            at = names.index(name)
            vehicles = vehicles.set_column(at, name, vehicles[name].fill_null(default))
    listed = ", ".join(names)
    connection.execute(f"CREATE TEMP TABLE known ON COMMIT DROP AS SELECT {listed} FROM vehicle "
                       "WITH NO DATA")  # fmt: skip
    _copy_in(connection, "known", vehicles)
    update = "NOTHING"
    others = [name for name in names if name != "vehicle_id"]
    if not made_up:
        now = ", ".join(f"vehicle.{name}" for name in others)
        new = ", ".join(f"excluded.{name}" for name in others)
        update = f"UPDATE SET ({', '.join(others)}) = ROW({new}) "
        update += f"WHERE ({now}) IS DISTINCT FROM ({new})"
    return connection.execute(
        f"INSERT INTO vehicle ({listed}) SELECT {listed} FROM known "
        f"ON CONFLICT (vehicle_id) DO {update}"
    ).rowcount


def _copy_in(connection: psycopg.Connection[Any], table: str, rows: pa.Table) -> None:
    options = pa_csv.WriteOptions(include_header=False)
    statement = f"COPY {table} ({', '.join(rows.column_names)}) FROM STDIN (FORMAT csv)"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for batch in rows.to_batches(ROWS_A_BLOCK):
            block = io.BytesIO()
            pa_csv.write_csv(batch, block, options)
            copy.write(block.getvalue())
