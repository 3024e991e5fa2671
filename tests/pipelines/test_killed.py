"""A run that is killed leaves no half files, and the next one finishes what it had begun."""

import shutil
import signal
import sys
from datetime import datetime

import pytest

from runners.alone import MARK
from runners.config import BadArguments
from tests.pipelines.lakes import backfill, command, differences, run, subset

MIDNIGHT = datetime.fromisoformat("2024-01-16T00:00+09:00")


def killed_at(number, fleet, lake, *options):
    """Files finished before the end; 0 when the run came to its end."""
    arguments = command(fleet, lake, *options)
    program = [sys.executable, "-m", "tests.pipelines.killed", str(number), *arguments[3:]]
    ended = run(program)
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    return ended.returncode


def readable(lake):
    tables = [path for path in lake.rglob("*.parquet") if not path.name.startswith(".")]
    import pyarrow.parquet as pq

    for path in tables:
        pq.read_metadata(path)


@pytest.mark.parametrize("number", [30, 250, 330, 420, 500])
def test_a_second_half_killed_and_started_again(fleet, whole, before_midnight, tmp_path, number):
    lake = tmp_path / "lake"
    shutil.copytree(before_midnight, lake)
    assert killed_at(number, fleet, lake, "--from", "2024-01-16T00:00+09:00") == -signal.SIGKILL
    readable(lake)
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
    only = ["--from", "2024-01-16T01:00+09:00"]
    assert killed_at(200, fleet, lake, *only) == -signal.SIGKILL
    backfill(fleet, lake)
    assert differences(whole[0], lake) == []


def test_half_files_and_the_spool_of_a_killed_run_are_deleted(fleet, whole, tmp_path):
    lake = tmp_path / "lake"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    arguments = command(fleet, lake)
    program = [sys.executable, "-m", "tests.pipelines.killed", "100", *arguments[3:]]
    assert run(program, TMPDIR=str(temporary)).returncode == -signal.SIGKILL
    assert [path for path in lake.rglob(".*") if path.is_file()]
    assert list(temporary.iterdir())
    backfill(fleet, lake)
    assert list(temporary.iterdir()) == []
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


def test_only_one_run_at_a_time_writes_to_a_lake(fleet, tmp_path, monkeypatch):
    import fcntl

    mark = tmp_path / "lake" / MARK
    mark.parent.mkdir(parents=True)
    with mark.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BadArguments, match="another backfill writes to it"):
            backfill(fleet, tmp_path / "lake")
