"""Stages that write rows: what the store takes, what it refuses, and when it is away."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field

import fastavro
import pyarrow as pa
import pytest

from connectors.errors import DependencyFailed
from connectors.kafka.settings import KafkaSettings
from connectors.sinks.contract import Written
from connectors.sinks.elasticsearch.settings import ElasticsearchSettings
from connectors.sinks.refused_rows import refused
from connectors.sinks.tables import JUDGED, MINUTES, TELEMETRY
from pipelines.live import rows_sink_stages
from pipelines.live.flink.arrow_blocks import read_block, stage_output
from pipelines.live.kafka_records import DEVICE_RECORD, OUT_RECORD
from pipelines.live.rows_sink_stages import FirstRowsStage, MinuteRowsStage, RevisedRowsStage
from pipelines.live.spec import LiveJobSpec
from schemas import load
from tests.support.uploads import ALWAYS, HOUR, MINUTE, NOON, bindings_of, log
from tests.transforms.live.test_revised_minutes import raw_batch
from transforms.decode.decoder import Decoder
from transforms.encode.topic_messages import encode_minutes, minute_keys
from transforms.facts.in_memory import facts
from transforms.live.first_verdict import REMEMBERED
from transforms.live.revised_minutes import DOSSIER
from transforms.model.thresholds import Rules

LIVE = LiveJobSpec("sink-test", KafkaSettings(), store=ElasticsearchSettings())
DEAD, MINUTE_SCHEMA = 3, 4


@dataclass
class Store:
    """A sink that keeps what it is given; refuses rows of `refuses` and fails while `away`."""

    rows: list = field(default_factory=list)
    prepared: list = field(default_factory=list)
    refuses: str = "nobody"
    away: bool = False

    def prepare(self, tables):
        self.prepared.append([table.name for table in tables])

    def write(self, table, rows):
        if self.away:
            raise DependencyFailed("the store is away")
        bad = [row.get("device_no") == self.refuses for row in rows.to_pylist()]
        letters = refused("test", table, rows.filter(pa.array(bad)), ["no"] * sum(bad))
        self.rows += [(table.name, row) for row in rows.to_pylist()]
        return Written(rows.num_rows - sum(bad), 10 * rows.num_rows, 2, letters)

    def close(self):
        pass


@dataclass
class Known:
    """A worker context that needs no servers."""

    writers: object = None

    def bind(self):
        pass

    def now(self):
        return Decoder(), self

    bindings = bindings_of(ALWAYS)

    def schema_id(self, topic):
        return DEAD

    def gauges(self):
        return {}

    def read_again(self, places):
        raise AssertionError("no record is read again here")


@pytest.fixture
def store(monkeypatch):
    found = Store()
    monkeypatch.setattr(rows_sink_stages, "open_sink", lambda *_: found)
    return found


def opened(kind):
    stage = kind(LIVE)
    stage.worker = Known()
    stage.open()
    return stage


def block_of(batch):
    return stage_output([(0, batch)])[8:]


def records(*uploads):
    rows = [
        {
            "topic": "message-log",
            "partition": 0,
            "offset": offset,
            "timestamp": NOON,
            "value": json.dumps(upload).encode(),
        }
        for offset, upload in enumerate(uploads)
    ]
    return block_of(pa.RecordBatch.from_pylist(rows, schema=DEVICE_RECORD))


def outputs(told, schemas):
    """Batches of a stage output by number."""
    found, at = {}, 0
    while at < len(told):
        number, size = (int.from_bytes(told[at + n : at + n + 4], "little") for n in (0, 4))
        found[number] = read_block(told[at + 8 : at + 8 + size], schemas[number])
        at += 8 + size
    return found


def test_uploads_are_rows_in_the_store_when_their_register_rows_go_on(store):
    stage = opened(FirstRowsStage)
    found = outputs(stage(records(log(1), log(2, NOON + MINUTE))), [REMEMBERED, OUT_RECORD])
    assert found.keys() == {0}
    assert found[0].num_rows == 2
    assert [name for name, _ in store.rows] == ["telemetry_log"] * 2
    assert all(row["revision"] < JUDGED and not row["gone"] for _, row in store.rows)
    assert [row["line"] for _, row in store.rows] == [0, 1]


def test_the_store_is_made_ready_once_and_by_the_first_rows(store):
    stage = opened(FirstRowsStage)
    assert store.prepared == []
    stage(records(log(1)))
    stage(records(log(2)))
    assert store.prepared == [[*(table.name for table in TELEMETRY.values()), MINUTES.name]]


def test_a_refused_row_is_a_dead_letter_and_the_others_stand(store):
    store.refuses = "0002"
    stage = opened(FirstRowsStage)
    told = stage(records(log(1), log(1, device_no="0002")))
    letters = outputs(told, [REMEMBERED, OUT_RECORD])[1]
    (value,) = letters.column("value").to_pylist()
    assert letters.column("topic").to_pylist() == ["dead-letters"]
    assert value[:5] == bytes([0, 0, 0, 0, DEAD])
    row = fastavro.schemaless_reader(io.BytesIO(value[5:]), load("dead_letter").avro, None)
    assert (row["stage"], row["error_message"]) == ("SINK", "test: no")
    assert stage.tally["rows_written"] == 1
    assert stage.tally["rows_refused"] == 1


def test_a_message_that_cannot_be_decoded_is_counted_and_nothing_else(store):
    stage = opened(FirstRowsStage)
    assert stage(records("nonsense")) == b""
    assert stage.tally["uploads_dead"] == 1
    assert store.rows == []


def test_a_store_that_stays_away_fails_the_stage(store):
    stage = opened(FirstRowsStage)
    store.away = True
    with pytest.raises(DependencyFailed):
        stage(records(log(1)))


def test_gauges_tell_what_was_written(store):
    stage = opened(FirstRowsStage)
    gauges = stage.gauges()
    assert gauges["oldest_unwritten_ms"]() == 0
    stage(records(log(1), log(2)))
    told = {name: read() for name, read in gauges.items()}
    assert told["rows_written"] == 2
    assert told["bytes_written"] == 20
    assert told["retries"] == 2
    assert told["rows_refused"] == 0


def test_a_dossier_that_says_otherwise_is_written_over_what_was(store):
    uploads = [log(n, NOON + n * MINUTE - 9 * HOUR, NOON + n * MINUTE) for n in range(5)]
    first = opened(FirstRowsStage)
    (register,) = outputs(first(records(*uploads)), [REMEMBERED, OUT_RECORD]).values()
    before = len(store.rows)
    revise = opened(RevisedRowsStage)
    revise.clock = lambda: NOON
    rows = pa.Table.from_batches([register]).append_column("version", pa.array([1] * 5))
    (dossier,) = rows.cast(DOSSIER).combine_chunks().to_batches()
    assert revise(block_of(dossier)) == b""
    written = [row for _, row in store.rows[before:]]
    assert all(row["revision"] >= JUDGED for row in written)
    assert {tuple(row["quality_flags"]) for row in written if not row["gone"]} == {
        ("TZ_CORRECTED",)
    }
    assert sum(row["gone"] for row in written) == revise.tally["rows_gone"]
    assert revise(block_of(dossier)) == b""
    assert len(store.rows) == before + len(written)


@dataclass
class Writers:
    """The schema of minutes."""

    def lookup(self, schema_id):
        return load("vehicle_minute").avro if schema_id == MINUTE_SCHEMA else None


def test_minutes_and_their_tombstones_are_rows_in_the_order_of_the_topic(store):
    minutes = some_minutes()
    keys, values = minute_keys(minutes), encode_minutes(minutes, MINUTE_SCHEMA)
    rows = [
        {"topic": "vehicle-minutes", "partition": 0, "offset": offset, "timestamp": NOON}
        | {"key": keys[0].as_py(), "value": value}
        for offset, value in enumerate([values[0].as_py(), None])
    ]
    stage = opened(MinuteRowsStage)
    stage.worker.writers = Writers()
    assert stage(block_of(pa.RecordBatch.from_pylist(rows, schema=DEVICE_RECORD))) == b""
    (name, there), (_, gone) = store.rows
    assert name == "vehicle_minutes"
    assert (there["gone"], gone["gone"]) == (False, True)
    assert there["revision"] < gone["revision"]
    assert (there["vehicle_id"], there["minute"]) == (gone["vehicle_id"], gone["minute"])


def some_minutes():
    raw = raw_batch("message-log", 0, [json.dumps(log(1)).encode()], 0, True)
    return facts([raw], Decoder(), bindings_of(ALWAYS), Rules()).minutes
