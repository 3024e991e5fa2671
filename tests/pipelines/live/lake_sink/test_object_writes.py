"""What a block becomes under other verdicts takes the place of what it was, wherever that lay."""

import pathlib
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from connectors.archive.names import OffsetBlock
from connectors.archive.offset_blocks import cut
from connectors.errors import DependencyFailed
from connectors.kafka.settings import KafkaSettings
from connectors.lake.settings import LakeSettings
from connectors.storage import folder
from pipelines.backfill.spec import BackfillSpec
from pipelines.live.lake_sink.stages import LakeStage
from pipelines.live.lake_sink.units import progress
from pipelines.live.lake_sink.write_block import Core, write_records
from pipelines.live.spec import LiveJobSpec
from tests.support.lakes import rows
from tests.support.uploads import ALWAYS, HOUR, NOON, bindings_of, log, raw_batch
from transforms.decode.decoder import Decoder
from transforms.live.block_verdicts import Overrides
from transforms.model.thresholds import Rules
from transforms.terminal_rules.clock import CORRECTED
from transforms.terminal_rules.verdicts import Verdicts

CORE = Core(Decoder(), bindings_of(ALWAYS), Rules())


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def job(tmp_path):
    return BackfillSpec("kafka://nowhere:1", "", str(tmp_path / "lake"), "")


def write(job, hours_off=0):
    """A block of one upload whose clock is judged to be so many hours ahead."""
    records = raw_batch([log(1, NOON)], topic="message-log", kafka=NOON, offset=0)
    verdicts = Verdicts.unremarkable(np.array([NOON]))
    if hours_off:
        off, corrected = np.array([hours_off * HOUR]), np.array([CORRECTED], np.int8)
        verdicts = replace(verdicts, offset_ms=off, source=corrected)
    overrides = Overrides(np.zeros(1, np.int64), verdicts)
    block = OffsetBlock("message-log", 0, 0, 1, 0)
    write_records(job, cut([records], block, job.zone), overrides, CORE)


def hours_of(job, table="telemetry_log"):
    return sorted(path.parent.name for path in (pathlib.Path(job.lake) / table).rglob("*.*"))


def test_rows_that_move_to_another_hour_leave_theirs(job):
    write(job)
    assert hours_of(job) == ["hour=12"]
    write(job, hours_off=3)
    assert hours_of(job) == hours_of(job, "_state/partials") == ["hour=09"]
    assert rows(job.lake, "telemetry_log", "time_source") == [("DEVICE_CORRECTED",)]


@pytest.mark.parametrize("place", ["/_state/objects/", "/_state/register/", "/hour=09/"])
def test_what_a_killed_write_left_in_an_hour_goes_with_the_next(job, monkeypatch, place):
    write(job)
    finish = folder.Rename.__call__

    def finish_or_die(commit):
        if place in commit.final:
            raise Killed
        finish(commit)

    monkeypatch.setattr(folder.Rename, "__call__", finish_or_die)
    with pytest.raises(Killed):
        write(job, hours_off=3)
    monkeypatch.undo()
    write(job, hours_off=5)
    job.tables.sweep()
    assert hours_of(job) == hours_of(job, "_state/partials") == ["hour=07"]
    assert job.state.begun() == set()


def test_an_hour_of_merged_objects_is_told_of_rows_that_left(job):
    write(job)
    merged = "telemetry_log/date=2024-01-15/hour=12/merged-0000.parquet"
    before = job.tables.child("telemetry_log").names()[0][0]
    job.tables.write(merged, job.tables.read(f"telemetry_log/{before}"))
    write(job, hours_off=3)
    assert rows(job.lake, "telemetry_log", "count(*)") == [(2,)]
    left = pathlib.Path(job.lake) / "telemetry_log" / before
    assert pq.read_metadata(left).num_rows == 0


def test_a_lake_that_is_away_is_asked_again(tmp_path, monkeypatch):
    store = LakeSettings(folder=str(tmp_path / "lake"), retry_backoff_ms=1, max_retries=3)
    stage = LakeStage(LiveJobSpec("sink-lake", KafkaSettings(bootstrap="nowhere:1"), store=store))
    left = [2]

    def write():
        left[0] -= 1
        if left[0] >= 0:
            raise DependencyFailed("could not write")
        return "done"

    assert stage.with_retries(write) == "done"
    assert stage.tally["retries"] == 2
    left[0] = 100
    with pytest.raises(DependencyFailed, match="gave up after 3 retries: could not write"):
        stage.with_retries(write)


def test_how_far_blocks_reach_is_told_of_every_batch():
    records = raw_batch([log(n, NOON) for n in range(40)], topic="message-log", offset=190)
    told = progress(records, 100, 60).to_pylist()
    assert [(row["unit"], row["end"], row["full"]) for row in told] == [
        ("message-log|0|100", 200, 1),
        ("message-log|0|200", 230, 0),
    ]
    assert [row["full"] for row in progress(records.slice(15, 25), 100, 25).to_pylist()] == [1]
