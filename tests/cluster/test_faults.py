"""Killed workers, managers, brokers: committed topics hold each upload once, minutes are right.

The same two jobs go through one fault after the other; each test feeds them more.
"""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.cluster import oracle
from tests.cluster.fleet import PATIENCE_S, Fleet, kill_workers, python_workers, until
from tests.cluster.load import terminals
from tests.cluster.messages import bindings

pytestmark = pytest.mark.cluster

TERMINALS, RATE, SECONDS = 1000, 5_000, 8
SENT = RATE * SECONDS


class Feed:
    """A steady feed in a process of its own."""

    def __init__(self, fleet, rate=RATE, seconds=SECONDS) -> None:
        command = [sys.executable, "-m", "tests.cluster.load", str(fleet.settings)]
        command += [str(TERMINALS), str(rate), str(seconds)]
        self.before = fleet.sent()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout and self.process.stdout.readline()
        self.began = time.monotonic()

    def at(self, second: float) -> None:
        """Wait for a moment of the feed."""
        time.sleep(max(0.0, self.began + second - time.monotonic()))

    def ends(self) -> None:
        """Wait for its end."""
        assert self.process.wait(PATIENCE_S) == 0


@pytest.fixture(scope="module")
def running(servers, tmp_path_factory):
    """Both jobs, before anything was sent."""
    folder = tmp_path_factory.mktemp("faults")
    with Fleet.fresh(servers, folder) as fleet:
        fleet.bindings.write_text(bindings(terminals(TERMINALS)))
        fleet.submit("convert")
        fleet.submit("aggregate")
        yield fleet


def holds_each_upload_once_in_order(fleet, feed) -> None:
    """Committed vehicle messages are what was sent, and the minutes are the batch's."""
    sent = fleet.sent()
    assert sent == feed.before + SENT
    until(lambda: fleet.committed(["vehicle-log"]) >= sent, f"{sent} uploads on vehicle-log")
    last: dict[bytes, int] = {}
    count = 0
    for key, row in oracle.decoded(fleet.config.kafka, "vehicle-log", "vehicle_log"):
        assert row["seq"] == last.get(key, -1) + 1, f"{key!r}: {row['seq']} after {last.get(key)}"
        last[key] = row["seq"]
        count += 1
    assert count == sent
    fleet.reaches_the_minutes_of(fleet.batch())
    assert list(oracle.decoded(fleet.config.kafka, "dead-letters", "dead_letter")) == []


def test_task_manager_killed_twice_and_python_workers_once(running):
    flink = running.servers["flink"]
    until(lambda: python_workers(flink), "Python workers")
    feed = Feed(running)
    for second in (2, 6):
        feed.at(second)
        workers = python_workers(flink)
        flink.task_manager(1).kill()
        until(lambda w=workers: not any(one.is_running() for one in w), "workers die with it")
        flink.start_task_manager(1)
        until(lambda: python_workers(flink), "Python workers are back")
    assert kill_workers(flink)
    feed.ends()
    holds_each_upload_once_in_order(running, feed)


def test_job_manager_lost_and_jobs_carried_on_from_their_last_checkpoints(running):
    flink = running.servers["flink"]
    feed = Feed(running)
    feed.at(5)
    flink.job_manager.kill()
    flink.task_manager(1).kill()  # PyFlink may end it by itself when its JobManager is lost
    flink.start_job_manager()
    flink.start_task_manager(1)
    flink.ready()
    running.submit("convert", "--from-savepoint", "latest")
    running.submit("aggregate", "--from-savepoint", "latest")
    feed.ends()
    holds_each_upload_once_in_order(running, feed)


@pytest.mark.parametrize("seconds", [10, pytest.param(30, marks=pytest.mark.long)])
def test_broker_stopped_for_a_while(running, seconds):
    kafka = running.servers["kafka"]
    feed = Feed(running)
    feed.at(4)
    kafka.stop()
    feed.at(4 + seconds)
    kafka.start()
    kafka.ready()
    feed.ends()
    holds_each_upload_once_in_order(running, feed)


def test_stopped_with_a_savepoint_at_two_and_resumed_at_one_and_four(fleet):
    fleet.bindings.write_text(bindings(terminals(TERMINALS)))
    fleet.submit("aggregate", "--parallelism", 2)
    fleet.submit("convert", "--parallelism", 2)
    feed = Feed(fleet)
    feed.at(4)
    savepoint = fleet.stop("convert")
    fleet.submit("convert", "--parallelism", 1, "--from-savepoint", savepoint)
    savepoint = fleet.stop("aggregate")
    fleet.submit("aggregate", "--parallelism", 1, "--from-savepoint", savepoint)
    feed.ends()
    until(lambda: fleet.committed(["vehicle-log"]) >= SENT, "convert has caught up")
    fleet.stop("convert")
    savepoint = fleet.stop("aggregate")
    fleet.submit("aggregate", "--parallelism", 4, "--from-savepoint", savepoint)
    holds_each_upload_once_in_order(fleet, feed)
