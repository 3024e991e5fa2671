"""Ranges of device topics through the backfill: whatever ranges, however often, whether from Kafka
or from the archive of the same records, the same lake."""

import json
import pickle
import re
import shutil
from collections import defaultdict
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.archive import names, offset_blocks
from connectors.errors import BadArguments, BadSettings, DependencyFailed
from connectors.kafka.settings import KafkaSettings
from pipelines.backfill.ledger import balances
from pipelines.backfill.spec import BackfillSpec
from runners.backfill import request
from runners.backfill.beam import run_backfill
from runners.config import Config
from runners.simulation.kafka import as_sent, feed
from runners.simulation.message_formats import AvroWriter
from runners.simulation.simulator import Scenario, simulate
from schemas import MESSAGE_TYPES, load
from tests.support.lakes import command, differences, run, spec_of
from tests.support.topics import delete_before, fresh, gone, records
from transforms.model import raw_messages

pytestmark = pytest.mark.servers

START = datetime.fromisoformat("2024-01-15T22:30+09:00")
BLOCK = 500
TABLES = ("vehicle_minutes", "dead_letters", *(f"telemetry_{kind}" for kind in MESSAGE_TYPES))


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Blocks small enough for a small fleet to fill several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "BLOCK", BLOCK)
        yield


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """What a fleet that misbehaves in every known way sends in 100 minutes over midnight, and its
    bindings. Its first log comes once more at the end, with other content."""
    out, found = tmp_path_factory.mktemp("fleet"), []
    misbehave = frozenset({"all"})
    simulate(
        out,
        Scenario(46, 1.6, 11, misbehave, START),
        send=lambda lines: found.extend(as_sent(lines)),
    )
    first = next(record for record in found if record.topic == "message-log")
    changed = first.value.replace(b'"rssi":-', b'"rssi":-1', 1)
    assert changed != first.value
    found.append(first._replace(value=changed, timestamp_ms=found[-1].timestamp_ms))
    return found, out / "device_binding.csv"


def backfill(kafka, sent, lake, **options):
    ledger = run_backfill(
        spec_of(f"kafka://{kafka.address}", sent[1], lake, block=BLOCK, **options)
    )
    assert balances(ledger)
    return ledger


@pytest.fixture(scope="module")
def runs(kafka, sent, tmp_path_factory):
    """A lake of three runs: of half the records, of all that came later, of some offsets again;
    the ledger of the second; a lake of one run over all and its ledger; and all records."""
    place = tmp_path_factory.mktemp("lakes")
    settings, half = fresh(kafka, partitions=2), len(sent[0]) // 2
    feed(settings, sent[0][:half])
    first = backfill(kafka, sent, place / "grown")
    assert first["totals"]["in"] == half
    feed(settings, sent[0][half:])
    later = datetime.fromtimestamp(sent[0][half].timestamp_ms / 1000, UTC)
    end = datetime(2024, 2, 1, tzinfo=UTC)
    second = backfill(kafka, sent, place / "grown", start=later, end=end)
    backfill(kafka, sent, place / "grown", offsets={("message-log", 0): (30, 70)})
    whole = backfill(kafka, sent, place / "whole")
    return (place / "grown", second), (place / "whole", whole), records(settings)


@pytest.fixture(scope="module")
def grown(runs):
    return runs[0]


@pytest.fixture(scope="module")
def whole(runs):
    return runs[1]


@pytest.fixture(scope="module")
def archived(runs, tmp_path_factory):
    """Odograph's own archive of the same records: by block and hour of arrival, with offsets,
    keys and time stamps."""
    place = tmp_path_factory.mktemp("archived")
    objects = defaultdict(list)
    for record in runs[2]:
        hour = record["timestamp"].astimezone(START.tzinfo).strftime("%Y/%m/%d/%H")
        topic, partition = record["topic"], record["partition"]
        first = record["offset"] // BLOCK * BLOCK
        name = f"{topic}/{hour}/{topic}+{partition}+{first:010d}.parquet"
        objects[name].append(record)
    columns = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")
    schema = pa.schema([raw_messages.SCHEMA.field(name) for name in columns])
    for name, found in objects.items():
        path = place / "topics" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(found, schema=schema), path)
    return place


def row_differences(lake, other, without=()):
    """Rows that only one of two lakes has, by table."""
    found = []
    for table in TABLES:
        places = [f"{one}/{table}/*/*/*.parquet" for one in (lake, other)]
        left_out = f"exclude ({', '.join(without)})" if without else ""
        query = (
            f"select * {left_out} from read_parquet(?) except all "
            f"select * {left_out} from read_parquet(?)"
        )
        for pair in (places, places[::-1]):
            found += [(table, row) for row in duckdb.execute(query, pair).fetchmany(3)]
    return found


def test_every_record_is_in_the_ledger(sent, whole):
    _, ledger = whole
    assert ledger["totals"]["in"] == len(sent[0])
    assert ledger["totals"]["dead"] > 30 and ledger["totals"]["duplicate"] > 30
    assert ledger["objects"]["broken"] == []
    assert {line["partition"] for line in ledger["by"]} == {0, 1}
    hours = {line["hour"] for line in ledger["by"]}
    assert {"2024011522", "2024011523", "2024011600"} <= hours


def test_rows_carry_their_place_in_the_device_topic(whole):
    lake, _ = whole
    query = 'select topic, partition, "offset", object from read_parquet(?)'
    rows = duckdb.execute(query, [f"{lake}/telemetry_gps/*/*/*.parquet"]).fetchall()
    assert len(rows) > 10_000
    for topic, partition, offset, name in set(rows):
        first = int(re.fullmatch(rf"{topic}/.*/{topic}\+{partition}\+(\d+)\.parquet", name)[1])
        assert first <= offset < first + BLOCK and first % BLOCK == 0


def test_twice_is_once(kafka, sent, whole, tmp_path):
    feed(fresh(kafka, partitions=2), sent[0])
    shutil.copytree(whole[0], tmp_path / "lake")
    assert backfill(kafka, sent, tmp_path / "lake") == whole[1]
    assert differences(whole[0], tmp_path / "lake") == []


def test_parts_that_grow_and_overlap_are_as_one(grown, whole):
    """The second run judged again what the first had read and it had not."""
    lake, second = grown
    assert second["objects"]["again"] > 0
    assert differences(whole[0], lake) == []


def test_the_archive_of_the_same_records_gives_the_same_rows(sent, whole, archived, tmp_path):
    ledger = run_backfill(spec_of(archived, sent[1], tmp_path / "lake"))
    assert {**ledger, "objects": whole[1]["objects"]} == whole[1]
    assert row_differences(whole[0], tmp_path / "lake") == []


def test_the_archive_after_kafka_replaces_and_adds_nothing(sent, whole, archived, tmp_path):
    shutil.copytree(whole[0], tmp_path / "lake")
    run_backfill(spec_of(archived, sent[1], tmp_path / "lake"))
    assert row_differences(whole[0], tmp_path / "lake") == []


def test_the_format_on_the_topic_does_not_matter(kafka, sent, whole, tmp_path):
    ids = {name: number for number, name in enumerate(MESSAGE_TYPES, 1)}
    for name, number in ids.items():
        (tmp_path / f"{number}.avsc").write_text(json.dumps(load(f"message_{name}").avro))
    settings = fresh(kafka, partitions=2)
    feed(settings, AvroWriter(ids).records(sent[0]))
    config = Config(schemas=str(tmp_path))
    ledger = backfill(kafka, sent, tmp_path / "lake", config=config)
    assert ledger == whole[1]
    assert row_differences(whole[0], tmp_path / "lake") == []


@pytest.fixture
def expired(kafka, sent):
    """Topics of which retention has taken the beginning of a block of each partition."""
    settings = fresh(kafka, partitions=2)
    feed(settings, sent[0])
    for topic, held in (("message-log", 620), ("message-gps", 130)):
        for partition in (0, 1):
            delete_before(kafka, topic, partition, held)
    return settings


def test_what_retention_took_stays_in_a_lake_that_has_it(kafka, sent, whole, expired, tmp_path):
    shutil.copytree(whole[0], tmp_path / "lake")
    ledger = backfill(kafka, sent, tmp_path / "lake")
    assert ledger["objects"]["broken"] == []
    assert differences(whole[0], tmp_path / "lake") == []


def test_what_nobody_has_any_more_is_reported(kafka, sent, expired, tmp_path):
    ledger = backfill(kafka, sent, tmp_path / "lake", offsets={("message-log", 0): (0, 10**6)})
    told = {one["name"]: one["reason"] for one in ledger["objects"]["broken"]}
    assert sorted(told) == ["message-log/0/0", "message-log/0/500"]
    assert "offsets 0 to 499 are no longer in Kafka" in told["message-log/0/0"]
    assert "offsets 500 to 619 are no longer in Kafka" in told["message-log/0/500"]
    query = 'select min("offset") from read_parquet(?)'
    assert duckdb.execute(query, [f"{tmp_path}/lake/telemetry_log/*/*/*.parquet"]).fetchall() == [
        (620,)
    ]


def test_reading_goes_on_behind_what_a_lake_has_of_an_expired_block(kafka, sent, tmp_path):
    settings = fresh(kafka, partitions=1)
    logs = [record for record in sent[0] if record.topic == "message-log"][:450]
    feed(settings, logs[:300])
    backfill(kafka, sent, tmp_path / "lake")
    delete_before(kafka, "message-log", 0, 200)
    feed(settings, logs[300:])
    for _ in range(2):
        ledger = backfill(kafka, sent, tmp_path / "lake")
        assert ledger["objects"]["broken"] == []
    settings = fresh(kafka, partitions=1)
    feed(settings, logs)
    backfill(kafka, sent, tmp_path / "fresh")
    place = ("object", "line")
    assert row_differences_of_logs(tmp_path / "fresh", tmp_path / "lake", place) == []


def row_differences_of_logs(lake, other, without):
    found = []
    for table, left_out in (("telemetry_log", without), ("vehicle_minutes", ())):
        places = [f"{one}/{table}/*/*/*.parquet" for one in (lake, other)]
        columns = f"* exclude ({', '.join(left_out)})" if left_out else "*"
        one = f"select {columns} from read_parquet(?)"
        for pair in (places, places[::-1]):
            found += duckdb.execute(f"{one} except all {one}", pair).fetchmany(3)
    return found


def test_the_command_reads_a_range(kafka, sent, tmp_path):
    settings = fresh(kafka, partitions=1)
    feed(settings, sent[0][:2000])
    words = ["--kafka", kafka.address, "--offsets", "message-log:0=0..10", "--lake", tmp_path / "l"]
    words = [*command(tmp_path, tmp_path)[:4], *map(str, words), "--bindings", str(sent[1])]
    ended = run(words)
    assert ended.returncode == 0, ended.stderr
    logs = sum(record.topic == "message-log" for record in sent[0][:2000])
    assert re.search(rf"message-log +│ +{logs:,} ", ended.stdout)
    assert "message-gps" not in ended.stdout


def test_brokers_that_are_away_and_topics_that_are_not_there_are_named(kafka, sent, tmp_path):
    with pytest.raises(DependencyFailed, match=r"127\.0\.0\.1:1 "):
        run_backfill(spec_of("kafka://127.0.0.1:1", sent[1], tmp_path / "lake"))
    gone(kafka)
    with pytest.raises(DependencyFailed, match="message-log"):
        backfill(kafka, sent, tmp_path / "lake")


@pytest.mark.parametrize(
    "text",
    ["", "message-gps", "message-gps:0", "message-gps:0=5", "message-gps:0=9..5", "a:x=1..2"],
)
def test_a_range_that_cannot_be_meant_is_refused(text):
    with pytest.raises(BadSettings):
        offset_blocks.parse_ranges(text)


def test_ranges_of_one_partition_are_joined():
    text = "message-gps:0=10..19, message-log:3=0..0,message-gps:0=15..30"
    spans = {("message-gps", 0): (10, 31), ("message-log", 3): (0, 1)}
    assert offset_blocks.parse_ranges(text) == spans


def test_a_source_is_named_once():
    config = Config()
    live = Config(kafka=KafkaSettings(bootstrap="one:9092"))
    assert request.source(None, None, None, live) == ("kafka://one:9092", None)
    assert request.source("archive", None, None, live) == ("archive", None)
    assert request.source(None, "two:9092", None, live) == ("kafka://two:9092", None)
    for words in ((None, None, None), ("archive", "one:1", None), ("archive", None, "a:0=1..2")):
        with pytest.raises(BadArguments):
            request.source(*words, config)


def test_a_job_that_travels_to_workers_holds_no_secret(monkeypatch):
    monkeypatch.setenv("KAFKA_PASSWORD", "do not tell")
    kafka = KafkaSettings(secrets={"sasl.password": "env:KAFKA_PASSWORD"})
    job = BackfillSpec("kafka://one:9092", "bindings.csv", "lake", "spool", kafka=kafka)
    travelled = pickle.dumps(job)
    assert b"do not tell" not in travelled
    assert pickle.loads(travelled).brokers.bootstrap == "one:9092"
