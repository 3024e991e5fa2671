"""The stream's judgement converges to the backfill's."""

from __future__ import annotations

import gzip
import json
import random
from collections import defaultdict

import pyarrow as pa
import pytest

from connectors.operations_db.bindings_file import load_bindings
from connectors.storage.settings import S3Settings
from runners.simulation.misbehaviours import MISBEHAVIOURS
from runners.simulation.simulator import Scenario, simulate
from tests.support.stream_model import Stream
from tests.support.uploads import ALWAYS, HOUR, MINUTE, NOON, bindings_of, log
from transforms.decode.decoder import Decoder
from transforms.facts.in_memory import facts
from transforms.model.raw_messages import SCHEMA as RAW
from transforms.model.thresholds import Rules

pytestmark = pytest.mark.days

START_MS = 1_705_244_400_000


def records(archive):
    """Records of every topic and partition as they lie in the archive, in order."""
    found = defaultdict(list)
    for path in sorted((archive / "topics").rglob("*+*+*.json.gz")):
        topic, partition, _ = path.name.split("+")
        try:
            lines = gzip.decompress(path.read_bytes()).split(b"\n")[:-1]
        except (OSError, EOFError):
            continue
        found[topic, int(partition)] += lines
    return found


def raw_batch(topic, partition, lines, first, named):
    offsets = range(first, first + len(lines))
    rows = [
        {
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "object": f"{topic}+{partition:04d}" if named else None,
            "line": offset,
            "timestamp": START_MS + offset,
            "value": line,
            "is_line": False,
        }
        for offset, line in zip(offsets, lines, strict=True)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=RAW)


@pytest.fixture(scope="module", params=[3])
def day(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("fleet")
    simulate(out, Scenario(3, 2.0, request.param, frozenset(MISBEHAVIOURS), partitions=2))
    return records(out / "archive"), load_bindings(str(out / "device_binding.csv"), S3Settings())


def test_a_stream_in_any_batches_ends_at_the_minutes_of_a_backfill(day):
    found, terminals = day
    decoder, rules = Decoder(terminals=terminals.known), Rules()
    whole = [raw_batch(t, p, lines, 0, True) for (t, p), lines in sorted(found.items())]
    expected = facts(whole, decoder, terminals.bindings, rules)
    stream = Stream(decoder, terminals.bindings, rules, 10**15)
    chance = random.Random(5)
    left = {place: (lines, 0) for place, lines in found.items()}
    while left:
        place = chance.choice(sorted(left))
        lines, at = left.pop(place)
        size = chance.choice((1, 30, 400))
        stream.take(raw_batch(*place, lines[at : at + size], at, False))
        if at + size < len(lines):
            left[place] = (lines, at + size)
    keys = [("vehicle_id", "ascending"), ("minute", "ascending")]
    assert stream.dead == expected.dead.num_rows
    assert stream.minutes().sort_by(keys).equals(expected.minutes.sort_by(keys))


def test_a_late_upload_has_no_say_in_what_others_come_to():
    in_time = [log(seq, NOON + seq * MINUTE, odo=1000 * seq) for seq in range(1, 9)]
    late = log(700, NOON + 3 * MINUTE + 30_000, NOON + 25 * HOUR, odo=701_000)
    expected = minutes_of(in_time)
    assert minutes_of([*in_time, late]) == expected
    assert minutes_of([late, *in_time]) == expected
    assert minutes_of([*in_time, late], lateness_ms=26 * HOUR) != expected


def minutes_of(uploads, **how):
    stream = Stream(Decoder(), bindings_of(ALWAYS), Rules(), **how)
    for offset, one in enumerate(uploads):
        stream.take(raw_batch("message-log", 0, [json.dumps(one).encode()], offset, False))
    return sorted(stream.minutes().to_pylist(), key=lambda row: row["minute"])
