"""The command that tends a lake."""

import shutil
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pytest

from runners.cli.lake import settled
from runners.config import Config
from runners.simulation.simulator import Scenario, simulate
from tests.support.command import odograph
from tests.support.lakes import backfill, rows

pytestmark = pytest.mark.servers

COUNTED = ("dead_letters", "telemetry_log", "telemetry_gps", "vehicle_minutes")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    out = tmp_path_factory.mktemp("fleet")
    start = datetime.fromisoformat("2024-01-15T23:45+09:00")
    simulate(out, Scenario(46, 0.5, 5, frozenset({"all"}), start))
    return out


@pytest.fixture(scope="module")
def lake(fleet, tmp_path_factory):
    place = tmp_path_factory.mktemp("lake") / "lake"
    backfill(fleet, place)
    return place


def counts(lake):
    """Rows of each table through the views that the command prints."""
    printed = odograph("lake", "sql", "--lake", str(lake))
    assert printed.returncode == 0, printed.stderr
    connection = duckdb.connect()
    connection.execute(printed.stdout)
    query = "select count(*), count(distinct date) from "
    return {table: connection.execute(query + table).fetchone() for table in COUNTED}


def plain_counts(lake):
    """The same for a reader of all objects."""
    return {table: rows(lake, table, "count(*), count(distinct date)")[0] for table in COUNTED}


def most_objects_of_an_hour(lake):
    return max(len(list(hour.iterdir())) for hour in lake.glob("telemetry_*/*/*"))


def test_a_compacted_lake_has_the_same_rows_in_fewer_objects(fleet, lake, tmp_path):
    compacted = tmp_path / "lake"
    shutil.copytree(lake, compacted)
    command = ("lake", "compact", "--lake", compacted, "--before", "2024-01-17")
    done = odograph(*command)
    assert done.returncode == 0, done.stderr
    assert "objects of" in done.stdout
    assert most_objects_of_an_hour(compacted) == 1 < most_objects_of_an_hour(lake)
    assert counts(compacted) == plain_counts(compacted) == counts(lake)
    backfill(fleet, compacted)
    assert counts(compacted) == plain_counts(compacted) == counts(lake)
    assert odograph(*command).returncode == 0
    assert most_objects_of_an_hour(compacted) == 1
    assert counts(compacted) == plain_counts(compacted) == counts(lake)


def test_a_lake_that_is_not_there_is_named(tmp_path):
    done = odograph("lake", "compact", "--lake", str(tmp_path / "no"), "--before", "2024-01-17")
    assert done.returncode == 2
    assert "no: there is nothing" in done.stderr
    assert odograph("lake", "sql").returncode == 2


def test_what_a_live_sink_may_write_again_is_not_settled():
    now = datetime(2024, 1, 20, tzinfo=ZoneInfo("Asia/Seoul"))
    config = Config()
    assert settled(config, now) == now - timedelta(hours=60)
    longer = Config(stream={"lateness_hours": 100, "outage_hours": 20})
    assert settled(longer, now) == now - timedelta(hours=120)
