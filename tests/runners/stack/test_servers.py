"""The servers of the tests are real, come back from a kill with their data, and leave nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pyarrow.fs
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from runners.stack.processes import Process, free_port, marked
from runners.stack.servers.kafka import Kafka
from runners.stack.servers.postgres import Postgres
from runners.stack.servers.s3 import REGION, S3
from tests.support.servers import CACHE, running, server_folder

pytestmark = [pytest.mark.servers, pytest.mark.long]

STARTER = """
import os, sys, time
from tests.support.servers import server_folder
from runners.stack.processes import Process

with server_folder() as folder:
    Process("sleeper", folder / "sleeper").start(["sleep", "600"])
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder():
    with server_folder() as place:
        yield place


@pytest.fixture
def other_run():
    """Another test run that has started a server, and its folder."""
    run = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    yield run, Path(run.stdout.readline().strip())
    run.kill()
    run.wait()


def test_a_killed_broker_comes_back_with_what_it_stored(folder):
    with running(Kafka(folder / "kafka", CACHE, free_port(Kafka.span))) as kafka:
        servers = {"bootstrap.servers": kafka.address}
        client = AdminClient(servers)
        client.create_topics([NewTopic("kept", 1, 1)])["kept"].result(60)
        producer = Producer(servers)
        producer.produce("kept", b"upload")
        assert producer.flush(60) == 0
        kafka.kill()
        assert kafka.process.running() is None
        kafka.start()
        kafka.ready(180)
        consumer = Consumer({**servers, "group.id": "reader"})
        consumer.assign([TopicPartition("kept", 0, 0)])
        assert consumer.poll(60).value() == b"upload"
        consumer.close()
    assert list(marked(folder)) == []


def test_a_killed_database_comes_back_with_what_was_committed(folder):
    with running(Postgres(folder / "postgres", CACHE, free_port())) as postgres:
        with psycopg.connect(postgres.conninfo) as connection:
            connection.execute("create table kept as select 1 as fact")
        postgres.kill()
        postgres.start()
        postgres.ready()
        with psycopg.connect(postgres.conninfo) as connection:
            assert connection.execute("select fact from kept").fetchall() == [(1,)]
    assert list(marked(folder)) == []


def test_the_database_runs_in_a_folder_its_user_may_not_pass(folder):
    folder.chmod(0o700)
    with running(Postgres(folder / "deep" / "postgres", CACHE, free_port())) as postgres:
        psycopg.connect(postgres.conninfo).close()


def test_a_killed_store_comes_back_with_its_objects(folder):
    with running(S3(folder / "s3", CACHE, free_port())) as s3:
        s3.make_bucket("kept")
        allowed = s3.environment
        store = pyarrow.fs.S3FileSystem(
            access_key=allowed["AWS_ACCESS_KEY_ID"],
            secret_key=allowed["AWS_SECRET_ACCESS_KEY"],
            region=REGION,
            endpoint_override=s3.address.removeprefix("http://"),
            scheme="http",
        )
        with store.open_output_stream("kept/one") as target:
            target.write(b"fact")
        s3.kill()
        s3.start()
        s3.ready()
        with store.open_input_stream("kept/one") as source:
            assert source.read() == b"fact"
    assert list(marked(folder)) == []


def test_what_a_killed_test_run_left_is_ended_by_the_next(other_run):
    run, theirs = other_run
    left = Process("sleeper", theirs / "sleeper").running()
    run.kill()
    run.wait()
    assert left.is_running()
    with server_folder():
        psutil.wait_procs([left], timeout=30)
    assert not left.is_running()
    assert not theirs.exists()


def test_a_test_run_beside_ours_is_left_alone(other_run):
    _, theirs = other_run
    with server_folder():
        assert Process("sleeper", theirs / "sleeper").running() is not None


def test_an_interrupted_test_run_leaves_nothing(other_run):
    run, theirs = other_run
    left = Process("sleeper", theirs / "sleeper").running()
    os.kill(run.pid, signal.SIGINT)
    run.wait(60)
    assert not left.is_running()
    assert not theirs.exists()
