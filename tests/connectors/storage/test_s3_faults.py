"""Writes to a bucket while everything goes wrong: a whole object or none, and no upload left."""

import secrets
from contextlib import suppress
from datetime import timedelta

import pytest
from pyarrow import fs

from connectors.errors import DependencyFailed
from connectors.storage import s3 as bucket
from connectors.storage.folder import folder
from connectors.storage.s3 import VersionConflict
from connectors.storage.settings import S3Settings
from runners.stack.faults.http_proxy import FaultProxy
from runners.stack.faults.rules import (
    Answer,
    LoseAnswer,
    Reset,
    ResetInAnswer,
    ResetInRequest,
    Slow,
)

pytestmark = pytest.mark.servers

ERROR = b"<Error><Code>%s</Code><Message>not now</Message></Error>"
INTERNAL = Answer(500, ERROR % b"InternalError")
SLOW_DOWN = Answer(503, ERROR % b"SlowDown")
WRONG = {
    "500": INTERNAL,
    "SlowDown": SLOW_DOWN,
    "reset": Reset(),
    "reset in the request": ResetInRequest(100),
    "lost answer": LoseAnswer(),
}
PART = 5 << 20
SMALL, LARGE = b"small" * 1000, bytes(range(256)) * (2 * PART // 256 + 1)
"""LARGE is written in three parts, the last one short."""


@pytest.fixture(scope="module")
def server(s3):
    s3.make_bucket("faulty")
    with FaultProxy(s3.address) as proxy:
        yield proxy


@pytest.fixture
def proxy(server, s3, monkeypatch):
    """The way to the store, without faults; large objects begin early, and nobody waits long."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(bucket, "SINGLE_BYTES", PART)
    monkeypatch.setattr(bucket, "PART_BYTES", PART)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", at_once)
    server.clear()
    bucket.forget_credentials()
    yield server
    bucket.forget_credentials()


def at_once(self, context):
    return 0.01


@pytest.fixture
def place(proxy):
    """An empty folder of the bucket, beyond the proxy."""
    return folder(f"s3://faulty/{secrets.token_hex(4)}", S3Settings(proxy.url, "us-east-1"))


def uploads(place):
    """Uploads in parts that are neither complete nor aborted."""
    client = bucket._client(place.settings)
    listed = client.list_multipart_uploads(Bucket="faulty", Prefix=place.path.partition("/")[2])
    return [one["Key"] for one in listed.get("Uploads", [])]


STEPS = {
    "put": ("PUT", r"/one(\?|$)", SMALL),
    "create": ("POST", r"\?uploads", LARGE),
    "part": ("PUT", r"partNumber=2", LARGE),
    "complete": ("POST", r"\?uploadId", LARGE),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("step", STEPS)
def test_what_goes_wrong_once_is_done_again(proxy, place, step, wrong):
    method, path, data = STEPS[step]
    rule = proxy.rule(method, path, WRONG[wrong], times=1)
    place.write("one", data)
    assert rule.struck == 1
    assert place.names() == [("one", len(data))]
    assert place.read("one").to_pybytes() == data


@pytest.mark.parametrize("wrong", ["500", "SlowDown", "reset"])
@pytest.mark.parametrize("step", STEPS)
def test_what_stays_wrong_leaves_nothing_and_no_upload(proxy, place, step, wrong):
    method, path, data = STEPS[step]
    proxy.rule(method, path, WRONG[wrong])
    with pytest.raises(DependencyFailed, match=r"could not write s3://faulty/\w+/one"):
        place.write("one", data)
    assert place.names() == [] and uploads(place) == []
    proxy.clear()
    place.write("one", data)
    assert place.read("one").to_pybytes() == data


@pytest.mark.parametrize("step", STEPS)
def test_an_object_that_cannot_be_replaced_stays_what_it_was(proxy, place, step):
    method, path, data = STEPS[step]
    place.write("one", b"before")
    proxy.rule(method, path, SLOW_DOWN)
    with pytest.raises(DependencyFailed):
        place.write("one", data)
    assert place.read("one").to_pybytes() == b"before"


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["put", "parts"])
def test_an_object_is_replaced_and_deleted_only_where_it_is_what_was_read(place, data):
    first = place.replace("one", data, None)
    assert place.version("one") == first
    with pytest.raises(VersionConflict):
        place.replace("one", data + b"2", None)
    second = place.replace("one", data + b"2", first)
    with pytest.raises(VersionConflict):
        place.replace("one", data + b"3", first)
    with pytest.raises(VersionConflict):
        place.delete_version("one", first)
    assert place.read_version("one") == (data + b"2", second)
    place.delete_version("one", second)
    place.delete_version("one", second)
    with pytest.raises(VersionConflict):
        place.replace("one", data, second)
    assert place.names() == [] and uploads(place) == []


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["put", "parts"])
def test_a_lost_answer_to_a_conditional_write_is_seen_by_looking_again(proxy, place, data):
    """The store has done it; the second try finds another version than it was to replace."""
    method, path, _ = STEPS["put" if data is SMALL else "complete"]
    proxy.rule(method, path, LoseAnswer(), times=1)
    with suppress(VersionConflict):
        place.replace("one", data, None)
    assert place.read_version("one")[0] == data


def test_a_connection_that_breaks_while_an_object_is_read_is_no_object(proxy, place):
    place.write("one", SMALL)
    proxy.rule("GET", "/one", ResetInAnswer(1000))
    with pytest.raises(DependencyFailed, match=r"could not read s3://faulty/\w+/one"):
        place.read_version("one")
    proxy.clear()
    assert place.read_version("one")[0] == SMALL


def test_a_link_that_is_slower_than_a_request_may_be_silent_is_slow_and_nothing_else(
    proxy, monkeypatch
):
    monkeypatch.setattr(bucket, "SINGLE_BYTES", 64 << 20)
    hurried = S3Settings(proxy.url, "us-east-1", 3, 3)
    place = folder(f"s3://faulty/{secrets.token_hex(4)}", hurried)
    rule = proxy.rule("PUT", "/one", Slow(5_000_000))
    place.write("one", bytes(25_000_000))
    assert rule.seen == 1
    assert place.names() == [("one", 25_000_000)]


def test_uploads_of_killed_processes_are_swept(place):
    client = bucket._client(place.settings)
    key = place.path.partition("/")[2]
    client.create_multipart_upload(Bucket="faulty", Key=f"{key}/killed")
    place.sweep()
    assert uploads(place) == [f"{key}/killed"]
    place.sweep(older_than=timedelta(0))
    assert uploads(place) == []


def test_an_upload_whose_abort_fails_too_is_swept_later(proxy, place):
    proxy.rule("PUT", "partNumber=2", SLOW_DOWN)
    proxy.rule("DELETE", "uploadId", SLOW_DOWN)
    with pytest.raises(DependencyFailed, match="SlowDown"):
        place.write("one", LARGE)
    proxy.clear()
    assert len(uploads(place)) == 1 and place.names() == []
    place.sweep(older_than=timedelta(0))
    assert uploads(place) == []


EXPIRED = Answer(400, ERROR % b"ExpiredToken")


def test_expired_credentials_are_said_and_fresh_ones_are_taken(proxy, s3, tmp_path, monkeypatch):
    """The store refuses the old key; the file with the new one is read again, for writing and
    for reading."""
    given = s3.environment
    for name in given:
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    text = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    file.write_text(text.format("EXPIRED", "no longer"))
    place = folder(f"s3://faulty/{secrets.token_hex(4)}", S3Settings(proxy.url, "us-east-1", 4, 14))
    asked = (lambda: place.write("one", SMALL), place.names, lambda: place.read_version("one"))
    for ask in asked:
        with pytest.raises(DependencyFailed, match=r"s3://faulty"):
            ask()
    file.write_text(text.format(given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"]))
    place.write("one", SMALL)
    assert place.names() == [("one", len(SMALL))]
    proxy.rule("PUT", "/one", EXPIRED, times=1)
    with pytest.raises(DependencyFailed, match="ExpiredToken"):
        place.write("one", LARGE[:100])
    assert place.read("one").to_pybytes() == SMALL
    place.write("one", LARGE[:100])
    assert place.read("one").to_pybytes() == LARGE[:100]


def test_no_folder_marks_are_left_by_deleting(place):
    place.write("a/b/one", SMALL)
    place.delete("a/b/one")
    infos = place.system.get_file_info(
        fs.FileSelector(place.path, recursive=True, allow_not_found=True)
    )
    assert [one.path for one in infos] == []
