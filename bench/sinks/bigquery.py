"""Rows into BigQuery's emulator: python -m bench.sinks.bigquery [--vehicles N --batches N].

Every contender brings the same telemetry rows into a table of its own, batch by batch, until the
store has kept them. The emulator is no measure of BigQuery: what counts is our processor's time,
and how close a sink comes to what this store takes at all.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import grpc
import pyarrow as pa
from google.cloud import bigquery

from bench import report
from bench.sinks.state import telemetry
from connectors.sinks.bigquery import schema
from connectors.sinks.bigquery.append_stream import METHOD, request, stream_of
from connectors.sinks.bigquery.insert import ROWS
from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.bigquery.sink import BigQuerySink
from connectors.sinks.tables import TELEMETRY, Table
from runners.artefacts.fetch import default_cache
from runners.stack.processes import free_port, sweep
from runners.stack.servers.bigquery import BigQuery

Batches = list[pa.Table]
Ready = Callable[[], None]


def sink(server: BigQuery, dataset: str, table: Table, batches: Batches) -> Ready:
    """This project's sink by the Storage Write API."""
    return _sink(server, dataset, table, batches, "storage_write")


def sink_inserting(server: BigQuery, dataset: str, table: Table, batches: Batches) -> Ready:
    """This project's sink by insertAll, for small deployments."""
    return _sink(server, dataset, table, batches, "insert_rows")


def per_row(server: BigQuery, dataset: str, table: Table, batches: Batches) -> Ready:
    """`insert_rows_json` from dicts, 500 a request, as BigQuery's guide has it; times as text."""
    client = _prepared(server, dataset, table).dataset.rest.client
    place = f"{server.settings['project']}.{dataset}.{table.name}"

    def write() -> None:
        for batch in batches:
            rows = [_plain(row, table) for row in batch.to_pylist()]
            for start in range(0, len(rows), ROWS):
                part = rows[start : start + ROWS]
                ids = [f"{row['message_id']}-{row['sample_idx']}" for row in part]
                errors = client.insert_rows_json(place, part, row_ids=ids, retry=None, timeout=60)
                assert errors == []

    return write


def ceiling(server: BigQuery, dataset: str, table: Table, batches: Batches) -> Ready:
    """The sink's own requests, made beforehand, sent by a bare gRPC client."""
    place = f"{server.settings['project']}.{dataset}.{table.name}"
    _prepared(server, dataset, table)
    stream = stream_of(place)
    sent = [schema.sent(table, batch) for batch in batches]
    requests = [request(stream, batch, number == 0) for number, batch in enumerate(sent)]

    def write() -> None:
        with grpc.insecure_channel(server.storage) as channel:
            for _ in channel.stream_stream(METHOD)(iter(requests)):
                pass

    return write


CONTENDERS = {
    "(a) this sink, Storage Write": sink,
    "(b) this sink, insertAll": sink_inserting,
    "(c) insert_rows_json from dicts": per_row,
    "(d) the same requests, bare client": ceiling,
}


def _prepared(server: BigQuery, dataset: str, table: Table, mode: str = "storage_write") -> Any:
    made = BigQuerySink(BigQuerySettings(**server.settings, dataset=dataset, mode=mode))
    made.prepare([table])
    return made


def _sink(server: BigQuery, dataset: str, table: Table, batches: Batches, mode: str) -> Ready:
    made = _prepared(server, dataset, table, mode)

    def write() -> None:
        for batch in batches:
            assert made.write(table, batch).rows == batch.num_rows
        made.close()

    return write


def _plain(row: dict[str, Any], table: Table) -> dict[str, Any]:
    row = {name: value for name, value in row.items() if value is not None}
    row["event_date"] = str(row[table.time].date())
    row["extras"] = [{"key": key, "value": value} for key, value in row.get("extras", [])]
    for name in ("event_time", "received_time", "device_time"):
        if name in row:
            row[name] = row[name].isoformat()
    return row


@dataclass(frozen=True)
class Figures:
    """What a run took, in seconds: all of it, of our processor, of the store's."""

    rows: int
    wall: float
    client: float
    server: float


def measure(server: BigQuery, dataset: str, contender: Any, table: Table, batches: Batches) -> Any:
    """One run of a contender; raises where the store does not hold the rows afterwards."""
    write = contender(server, dataset, table, batches)
    before, began, served = _own_cpu_s(), time.perf_counter(), _cpu_s(server)
    write()
    wall = time.perf_counter() - began
    figures = Figures(
        sum(batch.num_rows for batch in batches),
        wall,
        _own_cpu_s() - before,
        _cpu_s(server) - served,
    )
    client: bigquery.Client = _prepared(server, dataset, table).dataset.rest.client
    query = f"SELECT COUNT(*) n FROM {dataset}.{table.name}"
    (counted,) = client.query(query).result()
    assert counted["n"] == figures.rows, (dataset, counted["n"], figures.rows)
    return figures


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _cpu_s(server: BigQuery) -> float:
    process = server.process.running()
    assert process is not None
    used = process.cpu_times()
    return float(used.user + used.system)


def lines(table: str, taken: dict[str, Figures]) -> list[tuple[str, ...]]:
    """A line a contender; the last two columns are multiples of the per-row client."""
    base = taken["(c) insert_rows_json from dicts"]
    return [
        (
            table,
            name,
            f"{one.rows / one.wall:,.0f}",
            f"{one.rows / one.client:,.0f}",
            f"{one.wall:.2f}",
            f"{one.client:.2f}",
            f"{one.server:.2f}",
            f"{base.wall / one.wall:.1f}",
            f"{base.client / one.client:.1f}",
        )
        for name, one in taken.items()
    ]


HEAD = (
    *("table", "contender", "rows/s", "rows/cpu s", "seconds", "client cpu s", "store cpu s"),
    *("x (c)", "x (c) by cpu"),
)


@click.command()
@click.option("--vehicles", default=300, show_default=True, help="Uploads a batch.")
@click.option("--batches", default=3, show_default=True)
@click.option("--types", default="gps,log", show_default=True)
@click.option("--date", help="Rewrite the table in bench/README.md under this date.")
def main(vehicles: int, batches: int, types: str, date: str | None) -> None:
    """Measure the sink BigQuery beside plain clients and the store itself."""
    pa.set_cpu_count(1)
    body: list[tuple[str, ...]] = []
    with TemporaryDirectory() as folder:
        server = BigQuery(Path(folder) / "bigquery", default_cache(), free_port(BigQuery.span))
        try:
            server.start()
            server.ready()
            for name in types.split(","):
                each = vehicles if name == "gps" else vehicles * 20
                given = [telemetry(name, each, turn) for turn in range(batches)]
                taken = {
                    label: measure(server, f"bench_{name}_{n}", one, TELEMETRY[name], given)
                    for n, (label, one) in enumerate(CONTENDERS.items())
                }
                body += lines(name, taken)
        finally:
            server.stop()
            sweep(server.folder)
    text = report.markdown(HEAD, body)
    click.echo(text)
    if date:
        report.write("sink-bigquery", f"{date}; {report.machine()}.\n\n{text}")


if __name__ == "__main__":
    main()
