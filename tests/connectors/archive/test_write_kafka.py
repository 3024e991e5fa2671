"""The archive beside the topics it is written from: gaps are closed from Kafka, and a backfill of
the one is a backfill of the other."""

from datetime import datetime

import duckdb
import pytest

from connectors.archive import names
from connectors.archive.progress import Progress
from connectors.archive.write import KafkaSource
from connectors.errors import DependencyFailed
from connectors.kafka.bounded_read import read_range
from connectors.kafka.client import begin_offsets, end_offsets
from connectors.kafka.topics import DEVICE_TOPICS
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from pipelines.backfill.ledger import balances
from pipelines.backfill.spec import BackfillSpec
from runners.backfill.beam import run_backfill
from runners.simulation.kafka import as_sent, feed
from runners.simulation.simulator import Scenario, simulate
from schemas import MESSAGE_TYPES
from tests.support.archives import archived, known, read_progress, writer
from tests.support.kafka import new_topic, send, settings_of, transaction
from tests.support.topics import delete_before, fresh
from transforms.model import raw_messages

pytestmark = pytest.mark.servers

BLOCK = 200
START = datetime.fromisoformat("2024-01-15T23:30+09:00")
TABLES = ("vehicle_minutes", "dead_letters", *(f"telemetry_{kind}" for kind in MESSAGE_TYPES))


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "BLOCK", BLOCK)
        yield


@pytest.fixture
def place(tmp_path):
    return folder(str(tmp_path / "archive"), S3Settings())


def read(settings, topic, partition, start, end):
    """Records of a range as a job gets them."""
    return raw_messages.concat(list(read_range(settings, topic, partition, start, end)))


def test_a_job_told_to_start_late_archives_what_is_missing(kafka, place):
    settings, topic = settings_of(kafka), new_topic(kafka)
    headers = [("trace", b"\x00\xff"), ("none", None)]
    send(kafka, topic, [{"key": b"k%d" % n, "value": b"v%d" % n, "headers": headers}
                        for n in range(700)])  # fmt: skip
    writer(place, KafkaSource(settings)).write(read(settings, topic, 0, 0, 150))
    done = writer(place, KafkaSource(settings)).write(read(settings, topic, 0, 650, 700))
    assert done.completed == 500
    assert archived(place) == known(read(settings, topic, 0, 0, 700).to_pylist())
    assert read_progress(place, topic, 0) == Progress(0, 700)


def test_transactions_leave_holes_that_are_nothing_missing(kafka, place):
    settings, topic = settings_of(kafka), new_topic(kafka)
    transaction(kafka, topic, [b"a", b"b"])
    transaction(kafka, topic, [b"gone"] * 30, end="abort")
    transaction(kafka, topic, [b"c"])
    end = end_offsets(settings, [topic])[topic, 0]
    one = writer(place, KafkaSource(settings))
    one.write(read(settings, topic, 0, 0, 2))
    done = one.write(read(settings, topic, 0, 3, end))
    assert (done.completed, done.lost) == (0, 0)
    assert [row["value"] for row in archived(place)] == [b"a", b"b", b"c"]


def test_what_retention_took_is_lost_and_the_rest_is_not(kafka, place):
    settings, topic = settings_of(kafka), new_topic(kafka)
    send(kafka, topic, [(b"k", b"v%d" % n) for n in range(500)])
    source = KafkaSource(settings)
    writer(place, source).write(read(settings, topic, 0, 0, 100))
    delete_before(kafka, topic, 0, 250)
    done = writer(place, source).write(read(settings, topic, 0, 400, 500))
    assert (done.lost, done.completed) == (150, 150)
    assert [row["offset"] for row in archived(place)] == [*range(100), *range(250, 500)]
    assert read_progress(place, topic, 0) == Progress(0, 500, ((100, 250),))


def test_a_topic_that_was_deleted_and_made_again_is_refused(kafka, place):
    settings, topic = settings_of(kafka), new_topic(kafka)
    send(kafka, topic, [(b"k", b"old%d" % n) for n in range(100)])
    source = KafkaSource(settings)
    writer(place, source).write(read(settings, topic, 0, 0, 100))
    before = archived(place)
    fresh(kafka, partitions=1, topics=(topic,))
    send(kafka, topic, [(b"k", b"new%d" % n) for n in range(99)])
    with pytest.raises(DependencyFailed, match=rf"{topic}-0: .*offsets 0 to 99, .*another folder"):
        writer(place, source).write(read(settings, topic, 0, 30, 60))
    send(kafka, topic, [{"key": b"k", "value": b"later", "timestamp": 1_705_330_800_000}] * 50)
    with pytest.raises(DependencyFailed, match=rf"{topic}\+0\+0000000000\.parquet lacks .*another"):
        writer(place, source).write(read(settings, topic, 0, 120, 140))
    assert archived(place) == before
    assert read_progress(place, topic, 0) == Progress(0, 100)


def test_records_come_again_while_a_transaction_is_open_or_after_all_are_deleted(kafka, place):
    settings, topic = settings_of(kafka), new_topic(kafka)
    transaction(kafka, topic, [b"a", b"b"])
    held, source = read(settings, topic, 0, 0, 2), KafkaSource(settings)
    writer(place, source).write(held)
    transaction(kafka, topic, [b"undecided"], end="open")
    writer(place, source).write(held)
    delete_before(kafka, topic, 0, 3)
    writer(place, source).write(held)
    assert [row["value"] for row in archived(place)] == [b"a", b"b"]
    assert read_progress(place, topic, 0) == Progress(0, 2)


@pytest.fixture(scope="module")
def fleet(kafka, tmp_path_factory):
    """Topics with a fleet's hour over midnight, every misbehaviour; how to reach them, and its
    bindings."""
    out, found = tmp_path_factory.mktemp("fleet"), []
    misbehave = frozenset({"all"})
    simulate(
        out, Scenario(46, 1, 5, misbehave, START), send=lambda lines: found.extend(as_sent(lines))
    )
    settings = fresh(kafka, partitions=2)
    feed(settings, found)
    return settings, out / "device_binding.csv"


def test_a_backfill_of_the_archive_is_a_backfill_of_the_topics(kafka, fleet, place, tmp_path):
    settings, bindings = fleet
    one, given = writer(place, KafkaSource(settings)), []
    first, last = begin_offsets(settings, DEVICE_TOPICS), end_offsets(settings, DEVICE_TOPICS)
    for topic, partition in sorted(first):
        for at in range(first[topic, partition], last[topic, partition], 333):
            end = min(at + 333, last[topic, partition])
            given.append(read(settings, topic, partition, at, end))
    for number in range(0, len(given), 3):
        one.write(raw_messages.concat(given[number : number + 3]))
    lakes = [tmp_path / "from topics", tmp_path / "from archive"]
    ledgers = [
        run_backfill(BackfillSpec(source, str(bindings), str(lake), block=BLOCK))
        for source, lake in zip((f"kafka://{kafka.address}", place.uri), lakes, strict=True)
    ]
    assert balances(ledgers[1])
    assert {**ledgers[1], "objects": ledgers[0]["objects"]} == ledgers[0]
    assert ledgers[0]["totals"]["dead"] > 20 and ledgers[1]["objects"]["broken"] == []
    for table in TABLES:
        places = [f"{lake}/{table}/*/*/*.parquet" for lake in lakes]
        query = "select * from read_parquet(?) except all select * from read_parquet(?)"
        for pair in (places, places[::-1]):
            assert duckdb.execute(query, pair).fetchmany(2) == [], table
