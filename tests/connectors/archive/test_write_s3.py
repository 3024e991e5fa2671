"""The archive in a bucket, through what buckets do: every record once, whatever went wrong."""

import logging
import secrets

import pytest

from connectors.archive import names
from connectors.archive.progress import Progress
from connectors.archive.settings import ArchiveSettings
from connectors.errors import DependencyFailed
from connectors.storage import s3 as bucket
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from runners.stack.faults.http_proxy import FaultProxy
from runners.stack.faults.rules import Answer, LoseAnswer, Reset, ResetInAnswer
from tests.support.archives import (
    TOPIC,
    Log,
    archived,
    batch,
    known,
    object_names,
    read_progress,
    record,
    writer,
)

pytestmark = pytest.mark.servers

ERROR = b"<Error><Code>%s</Code><Message>not now</Message></Error>"
EVERY = {
    "500": (Answer(500, ERROR % b"InternalError"),),
    "SlowDown": (Answer(503, ERROR % b"SlowDown"),),
    "expired": (Answer(400, ERROR % b"ExpiredToken"),),
    "reset": (Reset(),),
    "lost answer": (LoseAnswer(),),
    "cut answer": (ResetInAnswer(10),),
}
PATIENT = ArchiveSettings(max_retries=50, retry_backoff_ms=1, retry_backoff_max_ms=20)


@pytest.fixture(scope="module")
def server(s3):
    s3.make_bucket("exact")
    with FaultProxy(s3.address) as proxy:
        yield proxy


@pytest.fixture
def proxy(server, s3, monkeypatch):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(names, "BLOCK", 10)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", _at_once)
    server.clear()
    bucket.forget_credentials()
    yield server
    bucket.forget_credentials()


def _at_once(self, context):
    return 0.001


@pytest.fixture
def way(proxy):
    """An empty folder by way of the proxy."""
    return folder(f"s3://exact/{secrets.token_hex(4)}", S3Settings(proxy.url, "us-east-1"))


@pytest.fixture
def place(way, s3):
    """The same without it."""
    return folder(way.uri, S3Settings(s3.address, "us-east-1"))


def feed(one, log, size=7):
    for at in range(0, len(log.records), size):
        one.write(batch(log.records[at : at + size]))


@pytest.mark.parametrize("wrong", EVERY)
def test_requests_that_go_wrong_again_and_again_lose_and_double_nothing(proxy, way, place, wrong):
    log = Log([record(n, hour=n // 15) for n in range(40)])
    every = 9 if wrong == "expired" else 3
    for nth in range(1, 90, every):
        proxy.rule("", f"/{way.path.partition('/')[2]}/", *EVERY[wrong], first=nth, times=1)
    feed(writer(way, log, PATIENT, old=way.child("old")), log)
    assert sum(rule.struck for rule in proxy.rules) > 3
    assert archived(place) == known(log.records)
    assert read_progress(place, TOPIC, 0) == Progress(0, 40)
    assert len(object_names(place.child("old"))) == len(object_names(place))


def test_a_store_that_stays_away_fails_the_batch_and_it_is_written_later(proxy, way, place, caplog):
    log = Log([record(n) for n in range(20)])
    one = writer(way, log)
    one.write(batch(log.records[:5]))
    proxy.close()
    with caplog.at_level(logging.WARNING), pytest.raises(DependencyFailed, match="gave up after 3"):
        one.write(batch(log.records[5:]))
    assert "the archive waits" in caplog.text
    assert archived(place) == known(log.records[:5])
    proxy.start()
    one.write(batch(log.records[5:]))
    assert archived(place) == known(log.records)


def test_a_lost_answer_is_found_out_and_counted_as_a_retry(proxy, way, place):
    log = Log([record(n) for n in range(5)])
    rule = proxy.rule("PUT", r"parquet", LoseAnswer(), times=1)
    done = writer(way, log).write(batch(log.records))
    assert rule.struck == 1 and done.retries == 1
    assert archived(place) == known(log.records)


def test_another_writer_between_reading_and_writing_is_noticed(way, place):
    log = Log([record(n) for n in range(9)])
    one, other = writer(way, log), writer(place, log)
    one.write(batch(log.records[:3]))
    other.write(batch(log.records[:6]))
    done = one.write(batch(log.records[3:9]))
    assert done.retries >= 1
    assert archived(place) == known(log.records)


def test_an_object_in_parts_is_replaced_on_condition_too(way, place, monkeypatch):
    monkeypatch.setattr(bucket, "SINGLE_BYTES", 5 << 20)
    monkeypatch.setattr(bucket, "PART_BYTES", 5 << 20)
    log = Log([record(n, value=secrets.token_bytes(2 << 20)) for n in range(5)])
    one = writer(way, log, cache=0)
    for n in range(3, 6):
        one.write(batch(log.records[:n]))
    assert archived(place) == known(log.records)
    assert len(object_names(place)) == 1
