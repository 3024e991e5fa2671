"""A backfill from bucket to bucket against a real S3 server, with and without its help."""

import os
import re
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from datetime import datetime

import pyarrow.fs as fs
import pytest

from connectors.errors import DependencyFailed
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from runners.simulation.simulator import Scenario, simulate
from tests.support import s3
from tests.support.lakes import COMMAND, ROOT, backfill, differences, rows

pytestmark = pytest.mark.servers

OFFLINE = {"AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    out = tmp_path_factory.mktemp("fleet")
    start = datetime.fromisoformat("2024-01-15T23:30+09:00")
    simulate(out, Scenario(vehicles=46, hours=1, seed=4, misbehave=frozenset({"all"}), start=start))
    return out


@pytest.fixture(scope="module")
def local(fleet, tmp_path_factory):
    lake = tmp_path_factory.mktemp("local") / "lake"
    backfill(fleet, lake)
    return lake


@pytest.fixture(scope="module")
def server(fleet):
    """A server whose bucket `fleet` holds the archive and the bindings."""
    with s3.s3_server() as running:
        system = client(running)
        system.create_dir("fleet")
        system.create_dir("lakes")
        fs.copy_files(str(fleet / "archive"), "fleet/archive", destination_filesystem=system)
        with system.open_output_stream("fleet/device_binding.csv") as target:
            target.write((fleet / "device_binding.csv").read_bytes())
        yield running


def client(server):
    return fs.S3FileSystem(
        access_key=server.key,
        secret_key=server.secret,
        endpoint_override=server.endpoint.removeprefix("http://"),
        scheme="http",
        region=server.region,
        allow_bucket_creation=True,
    )


def environment(server, **other):
    return os.environ | OFFLINE | {
        "AWS_ACCESS_KEY_ID": server.key,
        "AWS_SECRET_ACCESS_KEY": server.secret,
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_REGION": server.region,
    } | other  # fmt: skip


def start(server, lake, archive="s3://fleet/archive", **other):
    """A backfill from bucket to bucket by the command, as a process."""
    places = ["--archive", archive, "--bindings", "s3://fleet/device_binding.csv", "--lake", lake]
    return subprocess.Popen(
        [*COMMAND, "backfill", *places],
        cwd=ROOT,
        env=environment(server, **other),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(server, lake, **other):
    process = start(server, lake, **other)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def fetched(server, lake, to):
    fs.copy_files(lake.removeprefix("s3://"), str(to), source_filesystem=client(server))
    for folder_mark in [
        path for path in to.rglob("*") if path.is_file() and not path.stat().st_size
    ]:
        folder_mark.unlink()
    return to


@pytest.mark.long
def test_from_bucket_to_bucket_is_as_from_disk_to_disk(server, local, tmp_path):
    code, out, err = run(server, "s3://lakes/one")
    assert (code, err) == (0, "")
    assert "facts lie in s3://lakes/one" in out
    assert differences(local, fetched(server, "s3://lakes/one", tmp_path / "lake")) == []
    assert run(server, "s3://lakes/one")[0] == 0
    assert differences(local, fetched(server, "s3://lakes/one", tmp_path / "again")) == []


def test_the_endpoint_and_region_may_stand_in_the_settings(server, fleet, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
    place = folder("s3://lakes/settings", S3Settings(server.endpoint, server.region))
    place.write("a/b", b"1")
    assert place.read("a/b").to_pybytes() == b"1"
    assert place.read("a/c") is None
    assert place.names() == [("a/b", 1)] and place.exists()
    place.write("a/b", b"22")
    assert place.names() == [("a/b", 2)]
    place.delete("a/b")
    place.delete("a/b")
    assert place.names() == []
    place.write("c/d", b"3")
    place.clear()
    place.clear()
    assert place.names() == []


def test_a_write_to_a_bucket_that_is_given_up_leaves_nothing(server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
    place = folder("s3://lakes/given-up", S3Settings(server.endpoint, server.region))
    with pytest.raises(RuntimeError), place.whole("one") as stream:
        stream.write(bytes(20 << 20))
        raise RuntimeError
    assert place.read("one") is None


@pytest.mark.parametrize(
    "places, other, words",
    [
        ({"lake": "s3://nowhere/lake"}, {}, ["s3://nowhere/lake/", "write|NoSuchBucket"]),
        ({"archive": "s3://nowhere/archive"}, {}, ["s3://nowhere/archive", "topics"]),
        ({"archive": "s3://fleet/elsewhere"}, {}, ["s3://fleet/elsewhere/topics"]),
        ({}, {"AWS_SECRET_ACCESS_KEY": "wrong"}, ["s3://fleet/archive", "ACCESS_DENIED|Signature"]),
        (
            {},
            {"AWS_ACCESS_KEY_ID": "stranger"},
            ["s3://fleet/archive", "ACCESS_DENIED|Invalid|NotFound"],
        ),
    ],
    ids=["no lake bucket", "no archive bucket", "no archive", "wrong secret", "wrong key"],
)
def test_what_cannot_be_reached_is_named(server, places, other, words):
    process = start(server, **{"lake": "s3://lakes/none", **places}, **other)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 3, err
    assert out == "" and "Traceback" not in err
    assert len(err) < 1500 and [word for word in words if not re.search(word, err)] == []


def test_a_server_that_goes_away_fails_the_run_and_the_next_run_finishes_it(
    server, local, tmp_path, fleet
):
    with proxy(server) as (through, cut):
        process = start(through, "s3://lakes/cut")
        wait_for(lambda: client(server).get_file_info("lakes/cut/_state/begun").type
                 != fs.FileType.NotFound)  # fmt: skip
        cut()
        out, err = process.communicate(timeout=300)
    assert process.returncode == 3, err
    assert "lakes/cut" in err or "fleet/archive" in err
    assert "Traceback" not in err and out == ""
    assert run(server, "s3://lakes/cut")[0] == 0
    lake = fetched(server, "s3://lakes/cut", tmp_path / "lake")
    assert differences(local, lake) == []
    assert rows(lake, "dead_letters") == rows(local, "dead_letters")


@pytest.mark.parametrize("listens", [True, False], ids=["never answers", "refuses"])
def test_a_dead_endpoint_does_not_hang(monkeypatch, listens):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        if listens:
            dead.listen()
        settings = S3Settings(f"http://127.0.0.1:{dead.getsockname()[1]}", "us-east-1", 1, 2)
        with pytest.raises(DependencyFailed, match="s3://bucket/archive"):
            folder("s3://bucket/archive", settings).names()


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError


@contextmanager
def proxy(server):
    """A way to the server that can be cut: the endpoint, and what cuts it."""
    target = server.endpoint.removeprefix("http://").split(":")
    door = socket.create_server(("127.0.0.1", 0))
    ends = []

    def carry(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                end.close()

    def serve():
        while True:
            try:
                near, _ = door.accept()
            except OSError:
                return
            far = socket.create_connection((target[0], int(target[1])))
            ends.extend((near, far))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=carry, args=pair, daemon=True).start()

    def cut():
        for end in (door, *ends):
            with_shutdown(end)

    threading.Thread(target=serve, daemon=True).start()
    port = door.getsockname()[1]
    try:
        yield s3.S3Server(f"http://127.0.0.1:{port}", server.key, server.secret), cut
    finally:
        cut()


def with_shutdown(end):
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
