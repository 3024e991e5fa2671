"""Sinks are submitted by name, each as a job of its own."""

from __future__ import annotations

import sys

import pytest

from connectors.archive.settings import ArchiveSettings
from connectors.errors import BadSettings
from connectors.kafka.lag import Waiting
from connectors.lake.settings import LakeSettings
from connectors.operations_db.settings import DatabaseSettings
from connectors.storage.settings import S3Settings
from pipelines.open_sink import check_store
from runners.cli.status import Status
from runners.config import SINKS, load_config
from runners.flink.live_job import BUILT_BY, LiveJob
from tests.repository.files import ROOT
from tests.support import command

SETTINGS = """\
kafka: {bootstrap: "127.0.0.1:1"}
flink: {url: "http://127.0.0.1:1", checkpoints: "s3://jobs/checkpoints"}
stream: {batch_ms: 70}
sinks:
  archive: {folder: s3://archive}
  elasticsearch: {hosts: ["http://127.0.0.1:1"], linger_ms: 500}
  state: {}
"""


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "odograph.yaml"
    path.write_text(SETTINGS)
    return path


def odograph(*words):
    done = command.odograph(*words)
    return done.returncode, done.stdout + done.stderr


def plan(settings, job):
    return LiveJob(job=job, config=load_config(str(settings)), python=sys.executable)


def test_a_sink_that_is_not_set_is_refused_with_those_that_are(settings):
    code, told = odograph("submit", "sink", "bigquery", "--config", settings)
    assert code == 2
    assert "sinks.bigquery is not set" in told
    assert "archive, elasticsearch, state" in told


def test_status_without_a_cluster_is_a_dependency_that_failed(settings):
    code, told = odograph("status", "--config", settings)
    assert (code, "Flink at http://127.0.0.1:1 does not answer" in told) == (3, True)


def test_each_sink_has_its_own_job_group_transactions_and_checkpoints(settings):
    plans = [plan(settings, f"sink-{name}") for name in ("archive", "elasticsearch", "state")]
    assert [one.job_name for one in plans] == [
        "odograph-sink-archive",
        "odograph-sink-elasticsearch",
        "odograph-sink-state",
    ]
    for told in (
        {one.live().source_properties()["group.id"] for one in plans},
        {one.transactions for one in plans},
        {one.checkpoints for one in plans},
    ):
        assert len(told) == 3


def test_a_job_is_given_the_settings_of_its_store_alone(settings):
    assert plan(settings, "sink-elasticsearch").live().store.hosts == ("http://127.0.0.1:1",)
    assert plan(settings, "convert").live().store is None


def test_rows_wait_as_long_as_the_store_says(settings):
    assert plan(settings, "sink-elasticsearch").linger_ms == 500
    assert plan(settings, "convert").linger_ms == 70


def test_a_checkpoint_that_waits_for_a_store_does_not_stop_the_job(settings):
    options = plan(settings, "sink-state").flink_options()
    assert int(options["execution.checkpointing.tolerable-failed-checkpoints"]) > 1000
    assert (
        "execution.checkpointing.tolerable-failed-checkpoints"
        not in plan(settings, "convert").flink_options()
    )


def test_the_archive_makes_checkpoints_as_often_as_it_is_to_write(settings):
    name = "execution.checkpointing.interval"
    assert plan(settings, "sink-archive").flink_options()[name] == "180s"
    assert plan(settings, "sink-state").flink_options()[name] == "10s"


def test_every_store_has_a_job_that_some_module_builds():
    built = {f"sink-{name}": BUILT_BY[f"sink-{name}"] for name in SINKS}
    places = [ROOT / f"{name.replace('.', '/')}.py" for name in built.values()]
    assert [place for place in places if not place.exists()] == []


def test_a_savepoint_is_of_one_sink_alone(settings):
    words = ("submit", "sink", "all", "--from-savepoint", "s3://jobs/savepoint-1")
    code, told = odograph(*words, "--config", settings)
    assert (code, "name that sink" in told) == (2, True)
    prefixes = {plan(settings, f"sink-{name}").uid_prefix for name in SINKS}
    assert len(prefixes) == len(SINKS) and "" not in prefixes


def test_the_archive_needs_no_schema_and_no_bindings(settings):
    archive = plan(settings, "sink-archive")
    assert (archive.encodes, archive.writes, archive.binds) == ((), (), False)
    assert plan(settings, "sink-state").encodes == ("dead-letters",)


@pytest.mark.parametrize("store", [ArchiveSettings(), LakeSettings()])
def test_a_folder_that_nobody_named_is_refused_before_the_job_starts(store):
    with pytest.raises(BadSettings, match="folder is not set"):
        check_store(store, DatabaseSettings(), S3Settings())


def test_a_transaction_may_be_open_for_as_long_as_is_set(settings):
    settings.write_text(SETTINGS.replace("{batch_ms: 70}", "{transaction_timeout_s: 3600}"))
    sent = plan(settings, "convert").live().sink_properties()
    assert sent["transaction.timeout.ms"] == "3600000"


BEHIND = Waiting(7, 50_000)


@pytest.mark.parametrize(
    ("job", "state", "behind", "down"),
    [
        ("convert", "absent", None, False),
        ("convert", "FAILED", BEHIND, True),
        ("convert", "RUNNING", BEHIND, False),
        ("sink-state", "absent", None, True),
        ("sink-state", "RESTARTING", BEHIND, True),
    ],
)
def test_what_ran_or_has_a_store_must_run(job, state, behind, down):
    assert Status(job, state, behind, None, None).down == down


def test_status_tells_programs_how_long_the_oldest_record_waits():
    told = Status("convert", "RUNNING", BEHIND, 60_000, 2).as_json(now_ms=62_000)
    assert (told["lag"], told["waits_s"], told["restarts"]) == (7, 12.0, 2)
    assert (
        Status("convert", "RUNNING", Waiting(0, None), None, 0).as_json(62_000)["waits_s"] is None
    )
