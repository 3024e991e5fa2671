"""A backfill on the cluster comes to the tables and the ledger of a local one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connectors.storage.folder import Folder, folder
from connectors.storage.settings import S3Settings
from runners.config import load_config
from runners.flink.rest import Cluster
from runners.simulation.simulator import Scenario, simulate
from tests.cluster.fleet import kill_workers, until
from tests.support.command import odograph
from tests.support.lakes import COMMAND, backfill, differences, files

pytestmark = pytest.mark.cluster

FAILED, WRONG, INTERRUPTED = 3, 2, 130
IN_BUCKET = "s3://fleet/day"


@dataclass(frozen=True)
class Day:
    """A simulated fleet in `folder`, what a local backfill made of it in `lake`, and the stack."""

    servers: dict[str, Any]
    folder: Path
    lake: Path
    ledger: dict[str, Any]

    @property
    def settings(self) -> Path:
        """The stack's settings file."""
        return self.servers["flink"].folder.parent / "odograph.yaml"

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.servers["flink"].address)

    def order(self, lake: object, place: object = None, *more: object) -> list[str]:
        """The words of the command that backfills from `place` into a lake."""
        place = place or self.folder
        words = ["submit", "backfill", "--config", self.settings, "--parallelism", 2]
        words += ["--archive", f"{place}/archive", "--lake", lake]
        words += ["--bindings", f"{place}/device_binding.csv", *more]
        return [str(word) for word in words]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | self.servers["s3"].environment

    def run(self, order: list[str]) -> subprocess.CompletedProcess:
        return odograph(*order, **self.servers["s3"].environment)

    def start(self, order: list[str], **more: Any) -> subprocess.Popen:
        """The command in a process of its own."""
        return subprocess.Popen([*COMMAND, *order], env=self.environment, **more)

    def on_flink(self, lake: object, place: object = None) -> dict[str, Any]:
        """Backfill into a lake; the ledger."""
        ledger = self.folder.parent / "flink_ledger.json"
        done = self.run(self.order(lake, place, "--ledger", ledger))
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(ledger.read_text())

    def differs(self, lake: Path) -> list[str]:
        """Files that only one lake has or whose rows or bytes differ. Two releases of Arrow write
        the same rows into Parquet as different bytes."""
        return [one for one in differences(self.lake, lake) if not one.endswith("[[], []]")]


@pytest.fixture(scope="module")
def day(servers, tmp_path_factory):
    place = tmp_path_factory.mktemp("day")
    simulate(place / "fleet", Scenario(vehicles=10, hours=4, seed=3, misbehave=frozenset({"all"})))
    # as the command gives it, without what only this process knows
    ledger = json.loads(json.dumps(backfill(place / "fleet", place / "lake")))
    cluster = Cluster(servers["flink"].address)
    for job in cluster.jobs():
        if job.alive:
            cluster.end(job, 60)
    return Day(servers, place / "fleet", place / "lake", ledger)


def test_tables_and_ledger_equal_the_local_run(day, tmp_path):
    assert day.on_flink(tmp_path / "lake") == day.ledger
    assert day.differs(tmp_path / "lake") == []


@pytest.mark.long
def test_a_second_run_changes_nothing(day, tmp_path):
    """Nor does one in this process: tests.pipelines.backfill.test_convergence."""
    assert day.on_flink(tmp_path / "lake") == day.ledger
    once = files(tmp_path / "lake")
    assert day.on_flink(tmp_path / "lake") == day.ledger
    assert files(tmp_path / "lake") == once


@pytest.fixture
def buckets(day, monkeypatch):
    """S3 settings; the fleet lies at `IN_BUCKET`, the bucket `facts` is there."""
    for name, value in day.servers["s3"].environment.items():
        monkeypatch.setenv(name, value)
    settings = load_config(str(day.settings)).s3.settings()
    for name in ("fleet", "facts"):
        day.servers["s3"].make_bucket(name)
    _copy(folder(str(day.folder), S3Settings()), folder(IN_BUCKET, settings))
    return settings


@pytest.mark.long
def test_tables_and_ledger_are_the_same_from_bucket_to_bucket(day, buckets, tmp_path):
    assert day.on_flink("s3://facts/day", IN_BUCKET) == day.ledger
    _copy(folder("s3://facts/day", buckets), folder(str(tmp_path / "lake"), S3Settings()))
    assert day.differs(tmp_path / "lake") == []


def _copy(source: Folder, target: Folder) -> None:
    for name, _ in source.names():
        target.write(name, source.read(name))


@pytest.mark.long
def test_lost_workers_change_nothing(day, tmp_path):
    lake = tmp_path / "lake"
    with day.start(day.order(lake)) as running:
        for phase in ("read", "settle"):
            until(lambda p=phase: _done(lake, p) > 5, f"some objects of {phase}")
            assert kill_workers(day.servers["flink"])
    assert running.returncode == 0
    assert day.differs(lake) == []


def _done(lake: Path, phase: str) -> int:
    return len(list(lake.glob(f"_state/spool/*/phases/{phase}/results/*/*")))


@pytest.mark.long
def test_an_interrupt_ends_the_job_and_the_next_run_finishes(day, tmp_path):
    lake = tmp_path / "lake"
    with day.start(day.order(lake)) as running:
        until(lambda: _done(lake, "settle") > 5, "some objects are settled")
        running.send_signal(signal.SIGINT)
    assert running.returncode == INTERRUPTED
    assert not [job for job in day.cluster.jobs() if job.alive]
    assert not list(lake.glob("_state/spool/*"))
    assert day.on_flink(lake) == day.ledger
    assert day.differs(lake) == []


def test_an_archive_that_is_not_there_is_refused_as_locally(day, tmp_path):
    for place, code in ((tmp_path / "nothing", WRONG), ("s3://nobody/nothing", FAILED)):
        bindings = ("--bindings", day.folder / "device_binding.csv")
        done = day.run(day.order(tmp_path / "lake", place, *bindings))
        assert done.returncode == code, done.stderr
        assert str(place) in done.stderr


def test_a_cluster_that_does_not_answer_is_named(day, tmp_path):
    nowhere = "http://127.0.0.1:9"
    done = day.run(day.order(tmp_path / "lake", None, "--flink", nowhere))
    assert done.returncode == FAILED
    assert nowhere in done.stderr


@pytest.mark.long
def test_an_outage_that_workers_meet_ends_the_command_and_the_next_run_finishes(
    day, buckets, tmp_path
):
    lake, store = tmp_path / "lake", day.servers["s3"]
    order = day.order(lake, IN_BUCKET)
    with day.start(order, stderr=subprocess.PIPE, text=True) as running:
        until(lambda: _done(lake, "read") > 5, "some objects are read")
        store.kill()
        told = running.communicate()[1]
    store.start()
    store.ready()
    assert running.returncode == FAILED, told
    assert f"{IN_BUCKET}/archive/topics/" in told
    assert day.on_flink(lake, IN_BUCKET) == day.ledger
    assert day.differs(lake) == []
