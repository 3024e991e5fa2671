"""`odograph database`: the tables of vehicles and bindings in the operations database."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from connectors.errors import BadArguments
from runners.config import Config, load_config

if TYPE_CHECKING:
    import pyarrow as pa

BINDINGS = (
    "CSV or Parquet: device_no, vehicle_id, valid_from, valid_to and, where known, "
    "binding_version, msisdn."
)
VEHICLES = (
    "CSV: vehicle_id, plate_no, model_name and, where known, vin, model_year, fuel_type, "
    "fuel_tank_l, battery_kwh, region_code, zone_id, fleet_status, is_deleted; without it, "
    "vehicles are made up for ids not yet known."
)


@click.group()
def database() -> None:
    """Vehicles, which terminal sits in which, and the newest of each, in the operations database
    (Postgres)."""


def _config_option(command: click.decorators.FC) -> click.decorators.FC:
    text = "YAML settings: bindings_database, sinks.state."
    option = click.option(
        "--config", "path", required=True, type=click.Path(dir_okay=False), help=text
    )
    return option(command)


@database.command("apply")
@_config_option
def database_apply(path: str) -> None:
    """Make the tables vehicle and device_binding, vehicle_state and device_state; where they are,
    nothing changes. The last two go to the database of sinks.state where that names one."""
    from connectors.operations_db.read import describe
    from connectors.operations_db.tables import apply
    from connectors.sinks.vehicle_state.settings import StateSettings
    from connectors.sinks.vehicle_state.tables import apply_state

    config = _config(path)
    settings = config.bindings_database
    state = (config.sinks.settings_of(StateSettings) or StateSettings()).database(settings)
    apply(settings)
    apply_state(state)
    for name in dict.fromkeys(describe(target) for target in (settings, state)):
        click.echo(f"{name}: the tables are as declared")


@database.command("load")
@_config_option
@click.option("--bindings", required=True, help=BINDINGS)
@click.option("--vehicles", help=VEHICLES)
@click.option(
    "--ambiguous-as-unbound",
    is_flag=True,
    help="Leave out intervals that two vehicles claim, which the table cannot hold.",
)
def database_load(
    path: str, bindings: str, vehicles: str | None, ambiguous_as_unbound: bool
) -> None:
    """Fill the tables from files, all or nothing.

    Terminals named in the bindings file get exactly its rows, other terminals keep theirs; vehicles
    are added or changed, none is removed. Vehicles that are made up are for demonstrations.
    """
    import pyarrow.compute as pc

    from connectors.operations_db.bindings_file import bindings_table
    from connectors.operations_db.tables import load
    from runners.simulation.vehicles import made_up

    config = _config(path)
    rows = bindings_table(bindings, config.s3.settings())
    if vehicles is None:
        known = made_up(sorted(pc.unique(rows["vehicle_id"]).to_pylist()))
    else:
        known = _vehicles(vehicles, config)
    done = load(config.bindings_database, rows, known, vehicles is None, ambiguous_as_unbound)
    if done.ambiguous:
        click.echo(f"{done.ambiguous} intervals that two vehicles claim were left out", err=True)
    how = " made up" if vehicles is None else ""
    click.echo(
        f"{done.bindings:,} bindings written, {done.removed:,} removed; "
        f"{done.vehicles:,} vehicles{how} written; what was so already was left"
    )


def _vehicles(path: str, config: Config) -> pa.Table:
    from connectors.operations_db.tables import read_vehicles
    from connectors.storage.folder import folder

    parent, name = os.path.split(path)
    data = folder(parent or ".", config.s3.settings()).read(name)
    if data is None:
        raise BadArguments(f"vehicles file {path} does not exist")
    return read_vehicles(data, path)


def _config(path: str) -> Config:
    config = load_config(path)
    if config.bindings_database.conninfo is None:
        raise BadArguments(
            f"{path}: bindings_database.conninfo is not set; write "
            "conninfo: host=db.example dbname=fleet user=odograph"
        )
    return config
