"""Vehicle minutes come back from their topic as they were encoded."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from schemas import load
from tests.support.uploads import ALWAYS, MINUTE, NOON, bindings_of, fix, gps, log
from tests.transforms.live.test_revised_minutes import raw_batch
from transforms.decode.decoder import Decoder
from transforms.encode.read_vehicle_minutes import decode_minutes
from transforms.encode.topic_messages import encode_minutes, minute_keys
from transforms.facts.in_memory import facts
from transforms.model.raw_messages import SCHEMA as RAW
from transforms.model.thresholds import Bounds, Rules

ID = 7


class Writers:
    """Schemas by id."""

    def __init__(self, **schemas):
        self.schemas = {int(name[1:]): schema for name, schema in schemas.items()}

    def lookup(self, schema_id):
        return self.schemas.get(schema_id)


OURS = Writers(s7=load("vehicle_minute").avro, s8=load("message_log").avro)


@pytest.fixture(scope="module")
def minutes():
    uploads = [log(1, NOON, odo=5), log(2, NOON + MINUTE), gps([fix(0), fix(61, 500)], 3)]
    raws = [
        raw_batch(f"message-{one['type']}", 0, [json.dumps(one).encode()], place, True)
        for place, one in enumerate(uploads)
    ]
    return facts(raws, Decoder(), bindings_of(ALWAYS), Rules()).minutes


def records(keys, values):
    rows = [
        {
            "topic": "vehicle-minutes",
            "partition": 1,
            "offset": 100 + line,
            "line": line,
            "timestamp": NOON + line,
            "key": key,
            "value": value,
            "is_line": False,
        }
        for line, (key, value) in enumerate(zip(keys, values, strict=True))
    ]
    return pa.RecordBatch.from_pylist(rows, schema=RAW)


def decoded(keys, values):
    return decode_minutes(records(keys, values), OURS, Bounds())


def test_minutes_come_back_with_the_place_of_their_records(minutes):
    keys = minute_keys(minutes).to_pylist()
    found = decoded(keys, encode_minutes(minutes, ID).to_pylist())
    assert found.dead.num_rows == 0
    assert found.good.facts.drop_columns(["timestamp", "offset"]).equals(minutes)
    assert found.good.facts["offset"].to_pylist() == [100 + n for n in range(minutes.num_rows)]


def test_a_tombstone_is_a_minute_that_is_empty_now(minutes):
    keys = minute_keys(minutes).to_pylist()
    found = decoded(keys[:1], [None])
    assert found.good.facts.num_rows == 0
    (one,) = found.good.emptied.to_pylist()
    assert one["vehicle_id"] == minutes["vehicle_id"][0].as_py()
    assert one["minute"] == minutes["minute"][0].as_py()
    assert one["offset"] == 100


def test_what_is_no_minute_is_a_dead_letter_and_stops_nothing_else(minutes):
    keys, values = minute_keys(minutes).to_pylist(), encode_minutes(minutes, ID).to_pylist()
    bad = [b"", b"\1abcd", b"\0\0\0\0\x09x", b"\0\0\0\0\x08x", values[0][:-1], values[0] + b"x"]
    found = decoded([*keys, *([b"k"] * len(bad)), b"no key"], [*values, *bad, None])
    assert found.good.facts.num_rows == minutes.num_rows
    letters = found.dead.to_pylist()
    assert [one["source_offset"] for one in letters] == [
        100 + minutes.num_rows + n for n in range(len(bad) + 1)
    ]
    assert {one["stage"] for one in letters} == {"SINK"}
