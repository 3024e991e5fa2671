"""The state of vehicles in Postgres: python -m bench.sinks.state [--vehicles N --batches N].

Every contender brings the same telemetry rows into the same tables of a server of its own, one
connection, a batch a transaction, until it is committed; before each run the tables hold every
vehicle. Postgres runs as the stack starts it, without fsync.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from bench import report
from connectors.operations_db.settings import DatabaseSettings
from connectors.sinks.tables import TELEMETRY, Table
from connectors.sinks.vehicle_state.arrays import postgres_array, takes_arrays
from connectors.sinks.vehicle_state.columns import KINDS
from connectors.sinks.vehicle_state.newest import newest
from connectors.sinks.vehicle_state.settings import StateSettings
from connectors.sinks.vehicle_state.sink import StateStore
from connectors.sinks.vehicle_state.statements import upsert
from runners.artefacts.fetch import default_cache
from runners.stack.processes import free_port, sweep
from runners.stack.servers.postgres import Postgres
from transforms.facts.vehicle_state import standing

NOON_MS, MINUTE_MS, SAMPLES = 1_705_320_000_000, 60_000, 60
GIVEN = {
    "gps": ("lat_deg", "lon_deg", "heading_deg", "accuracy_m", "speed_kmh"),
    "log": (
        *("lat_deg", "lon_deg", "heading_deg", "speed_kmh", "ignition_on", "locked"),
        *("odometer_m", "fuel_level_pct", "aux_battery_v", "backup_battery_v"),
    ),
}
EVERY_ROW = """
INSERT INTO {table} AS s ({key}, {other}, {columns}, {stamps}, last_received_time)
VALUES (%({key})s, %({other})s, {values}, {clocks}, %(received_time)s)
ON CONFLICT ({key}) DO UPDATE SET {changes}, last_received_time = excluded.last_received_time
WHERE s.seen_event_time IS NULL OR s.seen_event_time < excluded.seen_event_time
"""


def telemetry(name: str, vehicles: int, turn: int) -> pa.Table:
    """One upload of every vehicle, each a minute after its last: of 60 samples, or a report."""
    table = TELEMETRY[name]
    samples = SAMPLES if name == "gps" else 1
    rng = np.random.default_rng(turn)
    order = np.repeat(rng.permutation(vehicles), samples)
    count = len(order)
    sample = np.tile(np.arange(samples), vehicles)
    event = NOON_MS + turn * MINUTE_MS + sample * 1000
    number = pc.utf8_lpad(pa.array(order).cast(pa.string()), 8, padding="0")
    made = {
        "message_id": pc.binary_join_element_wise(f"{turn:024d}", number, ""),
        "sample_idx": sample,
        "device_no": number,
        "vehicle_id": pc.binary_join_element_wise("V", number, ""),
        "event_time": event,
        "received_time": np.full(count, NOON_MS + (turn + 1) * MINUTE_MS + 700),
        "topic": pa.repeat(pa.scalar(f"message-{name}"), count),
        "offset": order + turn * vehicles,
        "revision": np.ones(count, np.int64),
        "gone": np.zeros(count, bool),
        "quality_flags": pa.repeat(pa.scalar([], pa.list_(pa.string())), count),
    }
    for column in GIVEN[name]:
        values = rng.random(count) * 50
        boolean = pa.types.is_boolean(table.columns.field(column).type)
        made[column] = values > 25 if boolean else values
    return pa.table(
        [
            pa.array(made[field.name]).cast(field.type, safe=False)
            if field.name in made
            else pa.nulls(count, field.type)
            if field.nullable or not pa.types.is_integer(field.type)
            else pa.array(np.zeros(count, np.int64)).cast(field.type)
            for field in table.revised
        ],
        schema=table.revised,
    )


Write = Callable[[psycopg.Connection, Table, pa.Table], None]


def plain(connection: psycopg.Connection, table: Table, rows: pa.Table) -> None:
    """A statement a row, the row a dict: what a client of a few lines does."""
    _each(connection, table, rows.to_pylist())


def sensible(connection: psycopg.Connection, table: Table, rows: pa.Table) -> None:
    """The same, but of each vehicle only the newest row, found in a dict."""
    latest: dict[str, dict] = {}
    for row in rows.to_pylist():
        known = latest.get(row["vehicle_id"])
        if known is None or known["event_time"] <= row["event_time"]:
            latest[row["vehicle_id"]] = row
    _each(connection, table, [latest[key] for key in sorted(latest)])


def _each(connection: psycopg.Connection, table: Table, rows: list[dict]) -> None:
    name = table.name.removeprefix("telemetry_")
    with connection.transaction(), connection.cursor() as cursor:
        for kind in KINDS:
            groups = list(kind.groups(table.revised))
            columns = [one for group in groups if not group.any_row for one in group.columns]
            columns = [one for one in columns if one in GIVEN[name]]
            stamps = [one for group in groups for one in (group.event_time, group.received_time)]
            changed = [kind.other, *columns, *stamps]
            statement = EVERY_ROW.format(
                table=kind.table,
                key=kind.key,
                other=kind.other,
                columns=", ".join(columns),
                stamps=", ".join(stamps),
                values=", ".join(f"%({one})s" for one in columns),
                clocks=", ".join(["%(event_time)s, %(received_time)s"] * len(groups)),
                changes=", ".join(f"{one} = excluded.{one}" for one in changed),
            )
            cursor.executemany(statement, rows)


@dataclass(frozen=True)
class Figures:
    """What a run took, in seconds: all of it, of our processor, of the server's."""

    rows: int
    states: int
    wall: float
    client: float
    server: float


@dataclass
class Place:
    """A server with the tables of state."""

    server: Postgres

    def settings(self) -> DatabaseSettings:
        """How to reach it."""
        password = f"file:{self.server.password_file}"
        return DatabaseSettings(conninfo=self.server.address, password=password)

    def cpu_s(self) -> float:
        """Processor seconds of the server and its backends, ended ones included."""
        postmaster = self.server.process.running()
        assert postmaster is not None
        own = postmaster.cpu_times()
        ended = own.children_user + own.children_system
        living = [child.cpu_times() for child in postmaster.children(recursive=True)]
        return ended + sum(one.user + one.system for one in (own, *living))

    def emptied(self, first: dict[str, pa.Table]) -> None:
        """The tables with every vehicle and nothing newer than `first`."""
        with psycopg.connect(self.server.conninfo, autocommit=True) as connection:
            connection.execute("TRUNCATE vehicle_state, device_state")
        sink = StateStore(StateSettings(), self.settings())
        for name, rows in first.items():
            sink.write(TELEMETRY[name], rows)
        sink.close()
        with psycopg.connect(self.server.conninfo, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE vehicle_state, device_state")


def measured(place: Place, batches: list[pa.Table], write: Callable[[pa.Table], None]) -> Figures:
    """One run over all batches; the first one is for plans and caches."""
    write(batches[0])
    server, client, wall = place.cpu_s(), time.process_time(), time.perf_counter()
    for rows in batches[1:]:
        write(rows)
    took = (time.perf_counter() - wall, time.process_time() - client, place.cpu_s() - server)
    count = sum(rows.num_rows for rows in batches[1:])
    states = sum(len(pc.unique(rows["vehicle_id"])) for rows in batches[1:])
    return Figures(count, states, *took)


def contenders(place: Place, name: str) -> Iterator[tuple[str, Callable[[pa.Table], None]]]:
    """Each by name, as a function that writes rows."""
    table = TELEMETRY[name]
    sink = StateStore(StateSettings(), place.settings())
    yield "odograph", lambda rows: sink.write(table, rows) and None
    sink.close()
    for label, write in (("(a) executemany", plain), ("(b) newest, executemany", sensible)):
        with psycopg.connect(place.server.conninfo, autocommit=True) as connection:
            yield label, lambda rows, write=write: write(connection, table, rows)


def ceiling(place: Place, name: str, batches: list[pa.Table]) -> Figures:
    """The same statements and bytes from a client that does nothing else."""
    size, ready = StateSettings().batch_size, []
    for rows in batches:
        statements = []
        for kind in KINDS:
            choice = newest(kind, standing(rows))
            text = upsert(kind, choice.groups, StateSettings().ahead_s)
            for chosen in choice.rounds:
                for start in range(0, chosen.num_rows, size):
                    part = chosen.slice(start, size)
                    statements.append((text, [postgres_array(column) for column in part.columns]))
        ready.append(statements)
    with psycopg.connect(place.server.conninfo, autocommit=True) as connection:
        takes_arrays(connection)
        waiting = iter(ready)

        def write(_: pa.Table) -> None:
            with connection.transaction():
                for text, arrays in next(waiting):
                    connection.execute(text, arrays, prepare=True)

        return measured(place, batches, write)


HEAD = ("rows", "contender", "rows/s", "vehicles/s", "client us/row", "server us/row", "rows/s x")


def line(name: str, label: str, one: Figures, peer: Figures) -> tuple[str, ...]:
    """A row of the table; the last column is speed by seconds, as a multiple of (a)."""
    speed, slower = one.rows / one.wall, peer.rows / peer.wall
    return (
        name,
        label,
        f"{speed:,.0f}",
        f"{one.states / one.wall:,.0f}",
        f"{1e6 * one.client / one.rows:.2f}",
        f"{1e6 * one.server / one.rows:.2f}",
        f"{speed / slower:.1f}",
    )


@click.command()
@click.option("--vehicles", default=5000, show_default=True, help="Vehicles, each in every batch.")
@click.option("--batches", default=6, show_default=True, help="Batches measured.")
@click.option("--slow-batches", default=1, show_default=True, help="Of (a), which takes longest.")
@click.option("--date", help="Rewrite the table in bench/README.md under this date.")
def main(vehicles: int, batches: int, slow_batches: int, date: str | None) -> None:
    """Measure the sink of vehicle states beside a plain client and the store itself."""
    pa.set_cpu_count(1)
    lines = []
    with TemporaryDirectory(prefix="odograph-bench-") as folder:
        Path(folder).chmod(0o711)
        server = Postgres(Path(folder) / "postgres", default_cache(), free_port())
        try:
            server.start()
            server.ready()
            place = Place(server)
            StateStore(StateSettings(), place.settings()).prepare(list(TELEMETRY.values()))
            first = {name: telemetry(name, vehicles, 0) for name in GIVEN}
            for name in GIVEN:
                given = [telemetry(name, vehicles, turn) for turn in range(1, batches + 2)]
                found = {}
                for label, write in contenders(place, name):
                    place.emptied(first)
                    count = slow_batches if label.startswith("(a)") else batches
                    found[label] = measured(place, given[: count + 1], write)
                place.emptied(first)
                found["the store itself"] = ceiling(place, name, given)
                lines += [line(name, k, one, found["(a) executemany"]) for k, one in found.items()]
        finally:
            server.stop()
            sweep(Path(folder))
    text = report.markdown(HEAD, lines)
    click.echo(text)
    if date:
        report.write("sink-state", f"{date}; {report.machine()}.\n\n{text}")


if __name__ == "__main__":
    main()
