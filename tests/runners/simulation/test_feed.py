"""The simulated fleet on Kafka: every upload once, in order, keyed and stamped, at its pace."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from connectors.errors import DependencyFailed
from connectors.kafka.settings import KafkaSettings
from runners.simulation.kafka import Feeder, Pace, Record, as_sent, feed
from runners.simulation.load_loop import Loop
from runners.simulation.message_formats import AvroWriter
from runners.simulation.simulator import Scenario, simulate
from schemas import MESSAGE_TYPES, load
from tests.repository.files import ROOT
from tests.support.topics import fresh, gone, records
from transforms.decode.decoder import Decoder, decode
from transforms.model import raw_messages

pytestmark = pytest.mark.servers

START = datetime.fromisoformat("2024-01-15T22:30+09:00")
NOWHERE = KafkaSettings(bootstrap="127.0.0.1:1")


def odograph(*words):
    return subprocess.run(
        [sys.executable, "-m", "runners.cli.main", *map(str, words)],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def played():
    """An hour and a half of a fleet that misbehaves in every known way, as it is sent."""
    sent = []
    everything = frozenset({"all"})
    simulate(
        None,
        Scenario(46, 1.5, 11, everything, START),
        send=lambda lines: sent.extend(as_sent(lines)),
    )
    return sent


@pytest.fixture(scope="module")
def fed(kafka, tmp_path_factory):
    """The same, by the command, into archive and Kafka: its folder and the records."""
    settings = fresh(kafka)
    out = tmp_path_factory.mktemp("fed")
    words = ["--vehicles", 46, "--hours", 1.5, "--seed", 11, "--misbehave", "all"]
    ended = odograph(
        *("simulate", "--kafka", kafka.address, "--out", out, "--start", START.isoformat()), *words
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return out, records(settings), ended.stdout


def lines_of(out):
    """Lines of an archive by topic, but for objects the old sink copied or broke."""
    truth = json.loads((out / "truth.json").read_text())
    cases = [case for one in truth["misbehaviours"].values() for case in one["cases"]]
    skip = {case["object"] for case in cases if case.get("copy_of") or case.get("broken")}
    topics = out / "archive" / "topics"
    found = defaultdict(list)
    for path in topics.rglob("*.json.gz"):
        name = str(path.relative_to(topics))
        if name not in skip:
            found[name.split("/")[0]] += gzip.decompress(path.read_bytes()).split(b"\n")[:-1]
    return found


def test_every_line_of_the_archive_is_one_record_byte_for_byte(fed):
    out, sent, _ = fed
    values = defaultdict(list)
    for record in sent:
        values[record["topic"]].append(record["value"])
    archived = lines_of(out)
    assert {topic: Counter(found) for topic, found in values.items()} == {
        topic: Counter(found) for topic, found in archived.items()
    }


def test_the_key_is_the_terminal_as_it_was_sent(fed):
    named = 0
    for record in fed[1]:
        try:
            body = json.loads(record["value"])
        except ValueError:
            continue
        if isinstance(body, dict) and isinstance(body.get("device_no"), str):
            key = record["key"].decode()
            named += body["device_no"] == key
            assert body["device_no"] == key or not body["device_no"].strip()
    assert named > 1000


def test_records_of_a_terminal_lie_in_order_of_arrival(fed):
    last = {}
    for record in fed[1]:
        place = (record["topic"], record["partition"], record["key"])
        assert last.get(place, record["timestamp"]) <= record["timestamp"]
        last[place] = record["timestamp"]


def test_the_time_stamp_is_the_arrival(fed):
    told = 0
    for record in fed[1]:
        at = record["value"].find(b'"timestamp":"')
        if at < 0 or b"GMT" not in record["value"]:
            continue
        text = record["value"][at + 13 : at + 32].decode()
        told += datetime.fromisoformat(text + "+00:00") == record["timestamp"].replace(
            microsecond=0
        )
    assert told > 0.95 * len(fed[1])


def test_partitions_are_those_of_every_other_client_of_kafka(fed):
    places = {(r["topic"], r["key"]): r["partition"] for r in fed[1]}
    assert places == {place: (murmur2(place[1]) & 0x7FFFFFFF) % 4 for place in places}
    assert len(set(places.values())) == 4


def murmur2(data):
    """Kafka's hash, as its Java client has it."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    for at in range(0, len(data) - len(data) % 4, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    rest = data[len(data) - len(data) % 4 :]
    if rest:
        h = ((h ^ int.from_bytes(rest, "little")) * m) & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def test_the_summary_says_what_kafka_acknowledged(fed):
    _, sent, told = fed
    assert f"{len(sent):,}" in told
    for topic, count in Counter(record["topic"] for record in sent).items():
        assert topic in told and f"{count:,}" in told


def test_sending_changes_nothing_of_what_is_written(fed, tmp_path):
    simulate(tmp_path, Scenario(46, 1.5, 11, frozenset({"all"}), START.astimezone(UTC)))

    def hashes(folder):
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file()
        }

    assert hashes(tmp_path) == hashes(fed[0])


def test_a_rate_is_kept(kafka):
    settings = fresh(kafka, topics=("message-log",))
    some = [Record("message-log", b"k", b"x" * 125, 1_700_000_000_000) for _ in range(3000)]
    done = feed(settings, some, rate=1500)
    assert done.records == {"message-log": 3000}
    assert done.seconds >= 2999 / 1500 - 0.05
    assert [r["value"] for r in records(settings, ["message-log"])] == [b"x" * 125] * 3000


def test_a_speed_is_kept(kafka):
    settings = fresh(kafka, topics=("message-log",))
    some = [Record("message-log", b"k", b"%d" % n, 1_700_000_000_000 + n) for n in range(0, 5000)]
    feeder = Feeder(settings, Pace(speed=4))
    feeder.send(some[:1000])
    feeder.send(some[1000:])
    assert feeder.finish().seconds >= 4999 / 4000 - 0.05
    assert [int(r["value"]) for r in records(settings, ["message-log"])] == list(range(5000))


def test_a_run_that_ends_now_sends_nothing_from_the_future(kafka):
    settings = fresh(kafka)
    ended = odograph(
        *("simulate", "--kafka", kafka.address, "--start", "now"), *("--vehicles", 5, "--hours", 1)
    )
    assert ended.returncode == 0, ended.stderr
    stamps = [record["timestamp"] for record in records(settings)]
    now = datetime.now(UTC)
    assert now - timedelta(hours=3) < min(stamps)
    assert max(stamps) < now + timedelta(seconds=5)


def test_brokers_that_are_away_are_named(tmp_path):
    with pytest.raises(DependencyFailed, match=r"127\.0\.0\.1:1 .*no broker answered"):
        feed(NOWHERE, [])
    ended = odograph("simulate", "--kafka", "127.0.0.1:1", "--out", tmp_path / "out")
    assert ended.returncode == 3
    assert "127.0.0.1:1" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_topics_that_are_not_there_are_said_with_what_makes_them(kafka):
    gone(kafka)
    ended = odograph("simulate", "--kafka", kafka.address)
    assert ended.returncode == 3
    assert "message-gps" in ended.stderr and "odograph topics apply" in ended.stderr


def test_a_record_that_kafka_refuses_ends_the_feed(kafka):
    settings = fresh(kafka, topics=("message-log",), max_message_bytes=1000)
    big = Record("message-log", b"k", os.urandom(3000), 1_700_000_000_000)
    with pytest.raises(DependencyFailed, match="message-log"):
        feed(settings, [big])


@pytest.mark.parametrize(
    "words",
    [
        ["--rate", "5"],
        ["--kafka", "127.0.0.1:1", "--rate", "5", "--speed", "2"],
        ["--kafka", "127.0.0.1:1", "--for", "5"],
        ["--kafka", "127.0.0.1:1", "--loop", "--speed", "2"],
        [],
    ],
)
def test_what_cannot_be_meant_is_refused(words, tmp_path):
    out = ["--out", tmp_path] if words else []
    assert odograph("simulate", *words, *out).returncode == 2


def uploads_of(sent, decoder):
    """message_id, receive time and all values of the uploads among records."""
    found = {}
    for at in range(0, len(sent), 5000):
        for uploads in decode(raw_batch(sent[at : at + 5000]), decoder).good:
            rows = uploads.rows.drop_columns(["upload"]).to_pylist()
            for row, head in enumerate(uploads.head.to_pylist()):
                samples = rows[uploads.starts[row] : uploads.starts[row + 1]]
                key = (head.pop("message_id"), at + head.pop("line"))
                found[key] = (uploads.message_type, head, samples)
    return found


def raw_batch(sent):
    columns = dict.fromkeys(raw_messages.SCHEMA.names, None)
    rows = [
        columns
        | {"topic": r.topic, "partition": 0, "line": n, "key": r.key, "value": r.value}
        | {"timestamp": datetime.fromtimestamp(r.timestamp_ms / 1000, UTC), "is_line": False}
        for n, r in enumerate(sent)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=raw_messages.SCHEMA)


IDS = {name: number for number, name in enumerate(MESSAGE_TYPES, 1)}


class OurSchemas:
    def lookup(self, schema_id):
        return load(f"message_{MESSAGE_TYPES[schema_id - 1]}").avro


def test_avro_says_what_json_said(played):
    encoded = list(AvroWriter(IDS).records(played))
    assert [r._replace(value=b"") for r in encoded] == [r._replace(value=b"") for r in played]
    framed = sum(record.value[:1] == b"\0" for record in encoded)
    assert framed > 0.9 * len(played)
    decoder = Decoder(writers=OurSchemas())
    assert uploads_of(encoded, decoder) == uploads_of(played, decoder)


def test_a_loop_never_sends_an_upload_again(played):
    passes = Loop(played, 5_400_000).passes()
    first, second, third = ([r for part in next(passes) for r in part] for _ in range(3))
    assert [len(one) for one in (first, second, third)] == [len(played)] * 3
    ids = [{key for key, _ in uploads_of(one, Decoder())} for one in (first, second, third)]
    assert not ids[0] & ids[1] and not ids[1] & ids[2]
    assert len(ids[0]) == len(ids[2]) == len({key for key, _ in uploads_of(played, Decoder())})


def test_a_pass_of_a_loop_is_the_run_later(played):
    some = [record for record in played if record.topic == "message-gps"][:500]
    passes = Loop(some, 5_400_000).passes()
    next(passes)
    later = [record for part in next(passes) for record in part]
    before, after = (list(uploads_of(one, Decoder()).values()) for one in (some, later))
    assert len(before) == len(after) > 400
    shift = timedelta(milliseconds=5_400_000)
    good = 0
    for (_, head, rows), (_, moved_head, moved) in zip(before, after, strict=True):
        assert moved_head["received_time"] - head["received_time"] == shift
        times = [(a["device_time"], b["device_time"]) for a, b in zip(rows, moved, strict=True)]
        good += all(two - one == shift for one, two in times if one)
    assert good > 0.9 * len(before)
    assert later[0].timestamp_ms - some[0].timestamp_ms == 5_400_000
