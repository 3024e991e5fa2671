"""A run that is killed leaves no half files, and the next one finishes what it had begun."""

import fcntl
import shutil
import signal
import sys
from datetime import datetime

import pyarrow.parquet as pq
import pytest

from connectors.errors import BadArguments
from runners.backfill.lake_lock import MARK
from tests.support.lakes import backfill, command, differences, run, subset

pytestmark = pytest.mark.days

MIDNIGHT = datetime.fromisoformat("2024-01-16T00:00+09:00")


def kill(place, fleet, lake, *options, **environment):
    """Run until the n-th file of a folder (`folder:n`) is about to appear."""
    arguments = command(fleet, lake, *options)
    program = [
        sys.executable,
        "-m",
        "tests.support.killed_backfill",
        *place.split(":"),
        *arguments[3:],
    ]
    ended = run(program, **environment)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.parametrize(
    "place",
    [
        "_state/register:6",
        "telemetry_log:2",
        "_state/begun:6",
        "_state/objects:8",
        "vehicle_minutes:2",
    ],
)
def test_a_second_half_killed_and_started_again(fleet, whole, before_midnight, tmp_path, place):
    lake = tmp_path / "lake"
    shutil.copytree(before_midnight, lake)
    kill(place, fleet, lake, "--from", "2024-01-16T00:00+09:00")
    for path in lake.rglob("[!.]*.parquet"):
        pq.read_metadata(path)
    backfill(fleet, lake, start=MIDNIGHT)
    assert differences(whole[0], lake) == []


def test_what_a_killed_run_began_is_finished_by_a_run_over_other_objects(fleet, whole, tmp_path):
    """Killed while minutes are merged: no object of that run is read again afterwards."""
    lake = tmp_path / "lake"
    backfill(fleet, lake)
    shutil.rmtree(lake / "vehicle_minutes")
    begun = lake / "_state" / "begun"
    shutil.copytree(lake / "_state" / "objects", begun)
    nothing = subset(fleet, tmp_path / "archive", lambda name: False)
    (nothing / "topics").mkdir(parents=True)
    backfill(fleet, lake, nothing)
    assert differences(whole[0], lake) == []


def test_stale_files_of_a_killed_run_go(fleet, whole, tmp_path):
    """Killed under bindings and verdicts that another run does not share."""
    lake = tmp_path / "lake"
    kill("_state/verdicts:6", fleet, lake, "--from", "2024-01-16T00:00+09:00")
    backfill(fleet, lake)
    assert differences(whole[0], lake) == []


def test_half_files_and_the_spool_of_a_killed_run_are_deleted(fleet, whole, tmp_path):
    lake = tmp_path / "lake"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    kill("telemetry_gps:3", fleet, lake, TMPDIR=str(temporary))
    assert [path for path in lake.rglob(".*") if path.is_file()]
    assert list(temporary.glob("odograph-*"))
    backfill(fleet, lake)
    assert list(temporary.glob("odograph-*")) == []
    assert differences(whole[0], lake) == []


def test_a_spool_that_is_not_ours_is_left_alone(fleet, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    mark = tmp_path / "lake" / MARK
    mark.parent.mkdir(parents=True)
    mark.write_text(str(precious))
    empty = subset(fleet, tmp_path / "archive", lambda name: False)
    (empty / "topics").mkdir(parents=True)
    backfill(fleet, tmp_path / "lake", empty)
    assert precious.is_dir()


def test_only_one_run_at_a_time_writes_to_a_lake(fleet, tmp_path):
    mark = tmp_path / "lake" / MARK
    mark.parent.mkdir(parents=True)
    with mark.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BadArguments, match="another backfill writes to it"):
            backfill(fleet, tmp_path / "lake")
