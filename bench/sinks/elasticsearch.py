"""python -m bench.sinks.elasticsearch: telemetry rows into a real node of the stack.

Contenders write the same rows under the same ids and versions into indices of one template. The
ceiling are the bytes of our own requests, made before, posted by nothing but sockets.
"""

from __future__ import annotations

import argparse
import http.client
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from elasticsearch import Elasticsearch as Client
from elasticsearch import helpers

from connectors.sinks.elasticsearch.documents import index_base, lines
from connectors.sinks.elasticsearch.settings import ElasticsearchSettings
from connectors.sinks.elasticsearch.sink import ElasticsearchSink
from connectors.sinks.tables import TELEMETRY
from runners.artefacts.fetch import default_cache
from runners.stack.processes import free_port, sweep
from runners.stack.servers.elasticsearch import Elasticsearch

TABLE = TELEMETRY["gps"]
START_MS = int(datetime(2026, 3, 10, tzinfo=UTC).timestamp() * 1000)
AT_ONCE, A_BATCH, SAMPLES, VEHICLES = 4, 2_000, 60, 500
Contender = Callable[[Elasticsearch, str, pa.Table], Callable[[], None]]


@dataclass(frozen=True)
class Trial:
    """One run: rows, seconds, CPU seconds of client and node."""

    rows: int
    seconds: float
    client_s: float
    node_s: float


def made(count: int) -> pa.Table:
    """Rows of GPS uploads of 60 samples, in the order in which they come."""
    number = np.arange(count)
    upload, vehicle = number // SAMPLES, number // SAMPLES % VEHICLES
    chance = np.random.default_rng(1)
    time_ms = START_MS + upload // VEHICLES * SAMPLES * 1000 + number % SAMPLES * 1000
    text = {
        "message_id": [f"018f3c2a-{one:012x}-7b21" for one in upload],
        "device_no": [f"8210{one:08d}" for one in vehicle],
        "vehicle_id": [f"VH-{one:06d}" for one in vehicle],
        "time_source": ["DEVICE"] * count,
        "binding_status": ["BOUND"] * count,
        "topic": ["message-gps"] * count,
        "device_gen": ["STS"] * count,
        "firmware_version": ["4.12.3"] * count,
        "fix_type": ["FIX_3D"] * count,
    }
    values: dict[str, Any] = {
        "sample_idx": number % SAMPLES,
        "event_time": time_ms,
        "device_time": time_ms,
        "received_time": time_ms // 60_000 * 60_000 + 61_000,
        "quality_flags": [[]] * count,
        "binding_version": np.full(count, 3),
        "partition": vehicle % 12,
        "offset": upload,
        "line": upload,
        "boot_count": vehicle % 50,
        "seq": upload,
        "uptime_s": number % 86_400,
        "lat_deg": np.round(37 + chance.random(count), 6),
        "lon_deg": np.round(127 + chance.random(count), 6),
        "altitude_m": np.round(chance.random(count) * 100, 1),
        "speed_kmh": np.round(chance.random(count) * 120, 1),
        "heading_deg": np.round(chance.random(count) * 360, 1),
        "hdop": np.round(chance.random(count) * 3, 1),
        "accuracy_m": np.round(chance.random(count) * 10, 1),
        "satellites": chance.integers(4, 16, count),
        "revision": np.full(count, 1 << 40),
        "gone": np.zeros(count, bool),
    }
    arrays = [
        pa.array({**text, **values}.get(field.name, [None] * count)).cast(field.type)
        for field in TABLE.revised
    ]
    return pa.Table.from_arrays(arrays, schema=TABLE.revised)


def ours(compress: bool) -> Contender:
    """The sink, the newest state of vehicles included."""

    def contender(node: Elasticsearch, prefix: str, rows: pa.Table) -> Callable[[], None]:
        settings = _settings(node, prefix).model_copy(update={"compress": compress})
        sink = ElasticsearchSink(settings, now=lambda: datetime(2026, 3, 10, tzinfo=UTC))

        def run() -> None:
            for start in range(0, rows.num_rows, 10 * A_BATCH):
                done = sink.write(TABLE, rows.slice(start, 10 * A_BATCH))
                assert not done.refused.num_rows
            sink.close()

        return run

    return contender


def per_row(threads: int) -> Contender:
    """elasticsearch.helpers from dicts, the way its documentation shows."""

    def contender(node: Elasticsearch, prefix: str, rows: pa.Table) -> Callable[[], None]:
        client = Client(node.address, request_timeout=60)
        base = index_base(prefix, TABLE)

        def run() -> None:
            actions = _actions(base, rows)
            if threads == 1:
                helpers.bulk(client, actions, chunk_size=A_BATCH)
                return
            for good, item in helpers.parallel_bulk(
                client, actions, thread_count=threads, chunk_size=A_BATCH
            ):
                assert good, item

        return run

    return contender


def ceiling(node: Elasticsearch, prefix: str, rows: pa.Table) -> Callable[[], None]:
    """Requests made before, posted by bare connections."""
    bodies: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    for start in range(0, rows.num_rows, A_BATCH):
        bodies.put(_bytes(prefix, rows.slice(start, A_BATCH)))

    def post() -> None:
        connection = http.client.HTTPConnection(node.address.partition("//")[2], timeout=60)
        while True:
            try:
                body = bodies.get_nowait()
            except queue.Empty:
                return
            headers = {"Content-Type": "application/x-ndjson"}
            connection.request("POST", "/_bulk?filter_path=errors", body, headers)
            assert connection.getresponse().read() == b'{"errors":false}'

    def run() -> None:
        _together([threading.Thread(target=post) for _ in range(AT_ONCE)])

    return run


CONTENDERS: dict[str, Contender] = {
    "odograph's sink": ours(True),
    "odograph's sink, not compressed": ours(False),
    "helpers.bulk from dicts": per_row(1),
    f"helpers.parallel_bulk from dicts, {AT_ONCE} threads": per_row(AT_ONCE),
    "the same bytes, bare sockets (ceiling)": ceiling,
}


def _settings(node: Elasticsearch, prefix: str) -> ElasticsearchSettings:
    return ElasticsearchSettings(
        hosts=(node.address,),
        index_prefix=prefix,
        replicas=0,
        max_in_flight_requests=AT_ONCE,
        batch_size=A_BATCH,
    )


def _actions(base: str, rows: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in rows.to_batches(A_BATCH):
        for row in batch.to_pylist():
            time_ = row["event_time"]
            document = {key: value for key, value in row.items() if value is not None}
            del document["gone"]
            place = {"lat": document.pop("lat_deg"), "lon": document.pop("lon_deg")}
            for name in ("event_time", "device_time", "received_time"):
                document[name] = document[name].isoformat(timespec="milliseconds")
            yield {
                "_index": f"{base}-{time_:%Y.%m.%d}",
                "_id": f"{row['message_id']}-{row['sample_idx']}",
                "version": row["revision"],
                "version_type": "external",
                "_source": {**document, "location": place},
            }


def _bytes(prefix: str, rows: pa.Table) -> bytes:
    made_ = lines(prefix, TABLE, rows)
    return bytes(made_.buffers()[2])


def _together(threads: Iterable[threading.Thread]) -> None:
    started = list(threads)
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def measured(node: Elasticsearch, name: str, prefix: str, rows: pa.Table) -> Trial:
    """One run into indices of its own, which are gone afterwards."""
    _prepared(node, prefix)
    run = CONTENDERS[name](node, prefix, rows)
    cpu, busy, began = time.process_time(), _node_cpu(node), time.perf_counter()
    run()
    seconds = time.perf_counter() - began
    client_s, node_s = time.process_time() - cpu, _node_cpu(node) - busy
    client = Client(node.address)
    client.indices.refresh(index=f"{prefix}*")
    stored = client.count(index=f"{index_base(prefix, TABLE)}-*")["count"]
    assert stored == rows.num_rows, f"{name}: {stored} documents of {rows.num_rows} rows"
    for index in client.indices.get(index=f"{prefix}*"):
        client.indices.delete(index=index)
    return Trial(rows.num_rows, seconds, client_s, node_s)


def _prepared(node: Elasticsearch, prefix: str) -> None:
    sink = ElasticsearchSink(_settings(node, prefix))
    sink.prepare([TABLE])
    sink.close()


def _node_cpu(node: Elasticsearch) -> float:
    process = node.process.running()
    found = [process, *process.children(recursive=True)] if process else []
    return sum(sum(one.cpu_times()[:2]) for one in found)


def table(trials: dict[str, list[Trial]]) -> str:
    """Medians by rate, in Markdown."""
    rates = {
        name: sorted(one, key=lambda t: t.seconds)[len(one) // 2] for name, one in trials.items()
    }
    base = rates["helpers.bulk from dicts"]
    text = "| contender | rows/s | × | rows a second of client CPU | × | cores: client, node |\n"
    text += "|---|---|---|---|---|---|\n"
    for name, trial in rates.items():
        rate, cheap = trial.rows / trial.seconds, trial.rows / trial.client_s
        text += (
            f"| {name} | {rate:,.0f} | {rate * base.seconds / base.rows:.1f} | {cheap:,.0f} | "
            f"{cheap * base.client_s / base.rows:.1f} | "
            f"{trial.client_s / trial.seconds:.2f}, {trial.node_s / trial.seconds:.2f} |\n"
        )
    return text


def main() -> None:
    """Start a node, run the contenders in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--heap-mb", type=int, default=1024)
    parser.add_argument("--work", type=Path, default=Path(".cache/bench-elasticsearch"))
    options = parser.parse_args()
    folder = options.work.absolute()
    node = Elasticsearch(folder, default_cache(), free_port(2), heap_mb=options.heap_mb)
    rows = made(options.rows)
    try:
        node.start()
        node.ready()
        for name in CONTENDERS:
            measured(node, name, "warm-", rows.slice(0, max(A_BATCH, options.rows // 5)))
        trials: dict[str, list[Trial]] = {name: [] for name in CONTENDERS}
        for number in range(options.rounds):
            turn = number % len(CONTENDERS)
            for name in [*CONTENDERS][turn:] + [*CONTENDERS][:turn]:
                trials[name].append(measured(node, name, f"round{number}-", rows))
        how = f"medians of {options.rounds} rounds, requests of {A_BATCH:,} rows"
        print(f"{options.rows:,} rows, {how}; × to helpers.bulk\n")
        print(table(trials))
    finally:
        node.stop()
        sweep(folder)


if __name__ == "__main__":
    main()
