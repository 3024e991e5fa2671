"""The live lake ends as the lake of a backfill over the same records: whatever is read, judged and
written when, and wherever it is killed."""

import random
import zlib
from collections import defaultdict
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.operations_db.bindings_file import load_bindings
from connectors.storage import folder
from connectors.storage.settings import S3Settings
from pipelines.backfill.spec import BackfillSpec
from pipelines.live.lake_sink.write_block import Core
from runners.simulation.kafka import as_sent
from runners.simulation.simulator import Scenario, simulate
from tests.support.lake_model import LiveLake
from tests.support.lakes import backfill, differences
from transforms.decode.decoder import Decoder
from transforms.model import raw_messages
from transforms.model.thresholds import Rules

START = datetime.fromisoformat("2024-01-15T23:30+09:00")
BLOCK = 300
ZONE = "Asia/Seoul"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """What a fleet that misbehaves in every known way sends around midnight, as partitions, as
    Odograph's own archive, and its bindings."""
    out, sent = tmp_path_factory.mktemp("fleet"), []
    misbehave = frozenset({"all"})
    simulate(
        out, Scenario(46, 0.8, 11, misbehave, START), send=lambda lines: sent.extend(as_sent(lines))
    )
    partitions = defaultdict(list)
    for record in sent:
        partition = zlib.crc32(record.key or b"") % 2
        partitions[record.topic, partition].append(record)
    topics = {place: _records(*place, found) for place, found in partitions.items()}
    for rows in topics.values():
        _archive(out / "recorded", rows)
    return topics, out


def _records(topic, partition, sent):
    rows = [
        {
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "line": offset,
            "timestamp": record.timestamp_ms,
            "key": record.key,
            "value": record.value,
            "is_line": False,
        }
        for offset, record in enumerate(sent)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=raw_messages.SCHEMA)


def _archive(place, rows):
    objects = defaultdict(list)
    for row in rows.to_pylist():
        hour = row["timestamp"].astimezone(START.tzinfo).strftime("%Y/%m/%d/%H")
        first = row["offset"] // BLOCK * BLOCK
        stem = f"{row['topic']}+{row['partition']}+{first:010d}"
        objects[f"{row['topic']}/{hour}/{stem}.parquet"].append(row)
    columns = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")
    schema = pa.schema([raw_messages.SCHEMA.field(name) for name in columns])
    for name, found in objects.items():
        path = place / "topics" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(found, schema=schema), path)


@pytest.fixture(scope="module")
def expected(fleet, tmp_path_factory):
    """The lake of a backfill, but for what only a backfill writes."""
    lake = tmp_path_factory.mktemp("backfill") / "lake"
    backfill(fleet[1], lake, fleet[1] / "recorded")
    return lake


def live_lake(fleet, lake):
    terminals = load_bindings(str(fleet[1] / "device_binding.csv"), S3Settings())
    core = Core(Decoder(terminals=terminals.known), terminals.bindings, Rules())
    job = BackfillSpec("kafka://nowhere:1", "", str(lake), "", zone=ZONE, block=BLOCK)
    return LiveLake(job, fleet[0], core)


def others(expected, lake):
    return [line for line in differences(expected, lake) if "vehicle_minutes/" not in line]


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 3))])
def test_in_any_batches_judgements_and_writes_through_crashes(fleet, expected, tmp_path, seed):
    live, chance = live_lake(fleet, tmp_path / "lake"), random.Random(seed)
    for _ in range(250):
        step = chance.random()
        if step < 0.4:
            live.take(chance.choice(sorted(fleet[0])), chance.choice((1, 30, 200)))
        elif step < 0.7 and live.known.unjudged:
            live.judge(chance.choice(sorted(live.known.unjudged)))
        elif step < 0.9 and live.known.dirty():
            live.write(chance.choice(live.known.dirty()))
        elif step < 0.95:
            live.checkpoint()
        else:
            live.crash()
    live.finish()
    assert others(expected, tmp_path / "lake") == []


class Killed(BaseException):
    """Stands for the end of the process."""


def test_killed_at_any_file(fleet, expected, tmp_path, monkeypatch):
    """Whatever a killed write left, writing the block again, with other verdicts, ends the same."""
    live, chance = live_lake(fleet, tmp_path / "lake"), random.Random(3)
    finish, left = folder.Rename.__call__, [0]

    def finish_or_die(commit):
        left[0] -= 1
        if not left[0]:
            commit.abandon()
            raise Killed
        finish(commit)

    monkeypatch.setattr(folder.Rename, "__call__", finish_or_die)
    for place, records in sorted(fleet[0].items()):
        live.take(place, records.num_rows)
    live.checkpoint()
    killed = 0
    for attempt in range(400):
        if not live.known.dirty():
            if not live.known.unjudged:
                break
            unjudged = sorted(live.known.unjudged)
            for device_no in chance.sample(unjudged, min(6, len(unjudged))):
                live.judge(device_no)
            live.checkpoint()
            continue
        left[0] = chance.choice((1, 3, 6, 12, 40, 10**9)) if attempt % 2 else 10**9
        try:
            live.write(live.known.dirty()[0])
            live.checkpoint()
        except Killed:
            killed += 1
            live.crash()
    left[0] = 10**9
    live.finish()
    assert killed > 10
    assert others(expected, tmp_path / "lake") == []
