"""Where the time of the live stages goes: each stage on blocks of uploads, without a cluster.

`python -m bench.live_jobs.stages` prints processor time an upload and a sample; with --profile also
the functions that take most of it."""

from __future__ import annotations

import argparse
import cProfile
import itertools
import pstats
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from bench.live_jobs.uploads import KINDS, START_MS, Kind, binding_rows, encoded, terminals
from connectors.kafka.settings import KafkaSettings
from connectors.operations_db.refresh import Snapshot
from pipelines.live.aggregate_stages import CHANGED, LookStage, MinutesStage
from pipelines.live.convert import ConvertStage
from pipelines.live.flink.arrow_blocks import read_block, stage_output
from pipelines.live.kafka_records import DEVICE_RECORD, OUT_RECORD
from pipelines.live.spec import LiveJobSpec
from pipelines.live.stage import Stage
from schemas import load
from transforms.bindings.bindings import Bindings
from transforms.bindings.vehicles import Vehicles
from transforms.decode.decoder import Decoder
from transforms.facts.packed_partials import PART
from transforms.live.first_verdict import REMEMBERED
from transforms.model.known_terminals import KnownTerminals
from transforms.model.thresholds import Rules

ROWS = {"log": 5000, "gps": 2700}
"""Uploads a block, as the jobs' defaults make them (5,000 records or 8 MiB)."""
MINUTE_MS = 60_000


class KnownWorker:
    """What a worker knows, without registry and database."""

    def __init__(self, names: list[str], rules: Rules) -> None:
        rows = list(binding_rows(names, START_MS + 300_000))
        moments = [[datetime.fromtimestamp(row[n] / 1000, UTC) for row in rows] for n in (2, 3)]
        table = pa.table(
            {
                "device_no": pa.array([row[0] for row in rows]),
                "vehicle_id": pa.array([row[1] for row in rows]),
                "valid_from": pa.array(moments[0], pa.timestamp("ms", "UTC")),
                "valid_to": pa.array(moments[1], pa.timestamp("ms", "UTC")),
                "binding_version": pa.array([row[4] for row in rows], pa.int64()),
            }
        )
        bindings = Bindings.from_table(table)
        known = KnownTerminals(bindings.known, None)
        self.snapshot = Snapshot(bindings, known, Vehicles.unknown(bindings), 0)
        self.decoder = Decoder(rules.bounds, known, self)
        self.schemas = {n: load(f"message_{kind.message_type}").avro for n, kind in _numbered()}

    def lookup(self, schema_id: int) -> dict[str, Any] | None:
        """The writer schema of an id."""
        return self.schemas.get(schema_id)

    def now(self) -> tuple[Decoder, Snapshot]:
        """As a live worker's."""
        return self.decoder, self.snapshot

    def schema_id(self, topic: str) -> int:
        """Any id will do."""
        return 7


def _numbered() -> Iterator[tuple[int, Kind]]:
    return enumerate(KINDS.values(), 1)


def blocks(kind: Kind, names: list[str], count: int) -> list[bytes]:
    """Blocks of device records as a job's Java side makes them, terminal after terminal."""
    number = {one.name: n for n, one in _numbered()}[kind.name]
    device_no, size = pa.array(names), ROWS[kind.message_type]
    values = [
        encoded(kind, device_no, seq, START_MS + (seq + 1) * kind.every_ms, number)
        for seq in range(-(-count * size // len(names)))
    ]
    value = pa.concat_arrays(values)
    total = count * size
    records = pa.RecordBatch.from_arrays(
        [
            pa.repeat(pa.scalar(kind.topic), total),
            pa.array(np.zeros(total, np.int32)),
            pa.array(np.arange(total)),
            pa.array(np.full(total, START_MS)),
            pa.concat_arrays([device_no.cast(pa.binary())] * len(values)).slice(0, total),
            value.slice(0, total),
            pa.nulls(total, pa.binary()),
        ],
        schema=DEVICE_RECORD,
    )
    return [stage_output([(0, records.slice(at * size, size))])[8:] for at in range(count)]


def outputs(output: bytes, schemas: Sequence[pa.Schema]) -> list[list[pa.RecordBatch]]:
    """The batches of a stage output, by number."""
    found: list[list[pa.RecordBatch]] = [[] for _ in schemas]
    at = 0
    while at < len(output):
        number, size = np.frombuffer(output, np.int32, 2, at).tolist()
        found[number].append(read_block(output[at + 8 : at + 8 + size], schemas[number]))
        at += 8 + size
    return found


def changed(registered: list[pa.RecordBatch]) -> list[bytes]:
    """Blocks of changed minutes, as the Java side makes them of what uploads said."""
    rows = []
    for row in pa.Table.from_batches(registered).to_pylist():
        packed = row["parts"]
        while packed:
            minute, vehicle, partial = np.frombuffer(packed, PART, 1)[0].tolist()
            at = PART.itemsize + vehicle
            names = (packed[PART.itemsize : at].decode(), row["message_id"], row["device_no"])
            rows.append((*names, minute, packed[at : at + partial]))
            packed = packed[at + partial :]
    columns = dict(
        zip(
            ("vehicle_id", "message_id", "device_no", "minute", "partial"),
            zip(*sorted(rows), strict=True),
            strict=True,
        )
    )
    columns["revision"] = (0,) * len(rows)
    arrays = [pa.array(columns[field.name], field.type) for field in CHANGED]
    batch = pa.RecordBatch.from_arrays(arrays, schema=CHANGED)
    return [stage_output([(0, batch.slice(at, 5000))])[8:] for at in range(0, batch.num_rows, 5000)]


def stage(kind: type[Stage], live: LiveJobSpec, worker: KnownWorker) -> Stage:
    """A stage that knows this worker."""
    return type(kind.__name__, (kind,), {"worker": property(lambda self: worker)})(live)


def run(
    one: Stage, given: list[bytes], profile: cProfile.Profile | None
) -> tuple[float, list[bytes]]:
    """Processor seconds of a stage over blocks after one to warm up, and what came out."""
    one(given[0])
    began = time.process_time()
    if profile:
        profile.enable()
    outs = [one(block) for block in given]
    if profile:
        profile.disable()
    return time.process_time() - began, outs


def measure(count: int, top: int) -> None:
    """Print the time of every stage on both kinds of uploads."""
    live = LiveJobSpec("bench", KafkaSettings())
    print(f"{'uploads':18} {'stage':12} {'us an upload':>12} {'us a sample':>12}")
    for kind in KINDS.values():
        names = terminals(5000)
        worker, given = KnownWorker(names, live.rules), blocks(kind, names, count)
        uploads = count * ROWS[kind.message_type]
        look = None
        for what in (ConvertStage, LookStage, MinutesStage):
            if what is MinutesStage:
                given = changed(list(itertools.chain(*(parts[0] for parts in look))))
            profile = cProfile.Profile(time.process_time) if top else None
            seconds, outs = run(stage(what, live, worker), given, profile)
            each = seconds / uploads * 1e6
            print(f"{kind.name:18} {what.__name__:12} {each:12.2f} {each / kind.samples:12.3f}")
            if what is LookStage:
                look = [outputs(one, [REMEMBERED, OUT_RECORD]) for one in outs]
            if profile:
                pstats.Stats(profile).sort_stats("tottime").print_stats(top)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.live_jobs.stages", description=__doc__)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="the N heaviest")
    options = parser.parse_args()
    measure(options.blocks, options.profile)
