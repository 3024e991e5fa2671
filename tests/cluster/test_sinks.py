"""A day with every misbehaviour, live into the stores while one of them and a machine are lost."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.bigquery.views import latest_name
from connectors.sinks.elasticsearch.documents import index_base
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from runners.artefacts import java_runtime
from runners.stack.processes import free_port
from runners.stack.servers.bigquery import PROJECT, BigQuery
from runners.stack.servers.elasticsearch import Elasticsearch
from tests.cluster import stores
from tests.cluster.fleet import PATIENCE_S, Fleet, odograph, until
from tests.cluster.stores import documents, in_bigquery, in_elasticsearch
from tests.cluster.test_sink_archive import ends
from tests.cluster.test_sink_lake import differences
from tests.support import command
from tests.support.servers import CACHE, running

pytestmark = pytest.mark.cluster

SINKS = ("elasticsearch", "bigquery", "lake", "archive")
AGAIN = "again"
"""The dataset and index prefix of the backfill."""
DAY = ("--vehicles", 3, "--hours", 0.5, "--start", "2024-01-14T23:45:00Z", "--misbehave", "all")
RATE = 80
"""Uploads a second, so that the feed lasts while things happen."""
NO_DEADLINES = {"stream": {"lateness_hours": 1_000_000, "revise_after_s": 1}}
QUICK = {"retry_backoff_ms": 100, "retry_backoff_max_ms": 1000, "max_retries": 1000}


@dataclass
class Day:
    """What was sent and what happened: `away` is the table of `odograph status` while
    Elasticsearch was away."""

    fleet: Fleet
    address: str
    bigquery: BigQuerySettings
    folder: Path
    away: str
    expected: dict


def told(status, job):
    """State, lag and restarts of a job in the table of `odograph status`."""
    (line,) = [one for one in status.splitlines() if f" {job} " in one]
    cells = [cell.strip() for cell in line.split("│")[1:-1]]
    return cells[1], int(cells[2].replace(",", "")), int(cells[-1] or 0)


@pytest.fixture(scope="module")
def day(servers, tmp_path_factory):
    """The whole story once: four sinks and the minutes' job run, a day is fed, Elasticsearch is
    killed and comes back, the TaskManager is killed and comes back."""
    place = tmp_path_factory.mktemp("sinks")
    search = Elasticsearch(place / "search", CACHE, free_port(2), java_options=java_runtime.LIGHT)
    query = BigQuery(place / "bigquery", CACHE, free_port(BigQuery.span))
    with running(search), running(query):
        reach = {
            "project": PROJECT,
            "api_endpoint": query.address,
            "storage_endpoint": query.storage,
            "insecure": True,
        }
        hosts = {"hosts": [search.address], "replicas": 0, "searchable_days": 40_000}
        sinks = {"bigquery": reach | QUICK, "elasticsearch": hosts | QUICK}
        for name in ("lake", "archive"):
            sinks[name] = {"folder": (place / name).as_uri(), "rotate_schedule_interval_ms": 2000}
        with Fleet.fresh(servers, place, **NO_DEADLINES, sinks=sinks) as fleet:
            yield story(fleet, search, BigQuerySettings(**reach), place)


def story(fleet, search, bigquery, place):
    out = place / "day"
    odograph("simulate", "--out", out, *DAY)
    fleet.bindings.write_bytes((out / "device_binding.csv").read_bytes())
    fleet.submit("aggregate")
    for name in SINKS:
        fleet.submit(f"sink {name}")
    simulate = [sys.executable, "-m", "runners.cli.main", "simulate", "--config", fleet.settings]
    feed = subprocess.Popen([*map(str, simulate), *map(str, DAY), "--rate", str(RATE)])
    search.process.kill()
    sent = until(fleet.sent, "uploads on the topics")
    until(lambda: told(status(fleet), "sink-bigquery")[1] < fleet.sent() > sent, "some is written")
    away = until(
        lambda: waits_alone(status(fleet)), "Elasticsearch's sink waits, BigQuery's goes on"
    )
    search.start()
    flink = fleet.servers["flink"]
    flink.task_manager(1).kill()
    flink.start_task_manager(1)
    search.ready(180)
    assert feed.wait(PATIENCE_S) == 0
    expected = stores.expected(fleet.batch())
    return Day(fleet, search.address, bigquery, place, away, expected)


def status(fleet):
    """What `odograph status` prints. It may fail: jobs of tests before this one are not running."""
    done = command.odograph("status", "--config", fleet.settings)
    return done.stdout + done.stderr


def waits_alone(shown):
    """The table, where it shows Elasticsearch's sink further behind than BigQuery's; "" else."""
    behind, on = (told(shown, name)[1] for name in ("sink-elasticsearch", "sink-bigquery"))
    return shown if behind > on else ""


def not_running(fleet):
    """The jobs that `odograph status` misses."""
    missed = re.search(r"^not running: (.*)$", status(fleet), re.MULTILINE)
    return missed[1].split(", ") if missed else []


def reaches(found, wanted, what):
    """Wait until a store holds the rows it must, by key."""
    last = {}

    def equal():
        last.update(now=found())
        return last["now"] == wanted

    try:
        until(equal, what)
    except AssertionError as error:
        now = last["now"]
        wrong = [k for k in now.keys() | wanted.keys() if now.get(k) != wanted.get(k)]
        some = [(key, now.get(key), wanted.get(key)) for key in sorted(wrong, key=str)[:3]]
        told = f"{len(wrong)} of {len(wanted)} rows differ: {some}"
        raise AssertionError(f"{error}\n{told}") from None


def test_a_store_that_is_away_makes_its_own_sink_wait_and_no_other(day):
    state, lag, restarts = told(day.away, "sink-elasticsearch")
    assert (state, restarts) == ("RUNNING", 0)
    assert lag > told(day.away, "sink-bigquery")[1]
    assert told(day.away, "sink-bigquery")[::2] == ("RUNNING", 0)


@pytest.mark.parametrize("table", stores.TABLES, ids=lambda table: table.name)
def test_rows_in_elasticsearch_are_those_of_a_batch(day, table):
    wanted = documents(table, day.expected[table])
    reaches(lambda: in_elasticsearch(day.address, table), wanted, f"{table.name} as in the batch")


@pytest.mark.parametrize("table", stores.TABLES, ids=lambda table: table.name)
def test_rows_in_bigquery_are_those_of_a_batch(day, table):
    wanted = stores.by_key(table, day.expected[table].to_pylist())
    reaches(lambda: in_bigquery(day.bigquery, table), wanted, f"{table.name} as in the batch")


@pytest.fixture(scope="module")
def again(day, tmp_path_factory):
    """The live archive backfilled on the cluster into other places of the same stores: the folder
    of the lake."""
    config, archive = day.fleet.config, folder(str(day.folder / "archive"), S3Settings())
    until(lambda: (lambda noted, goes: noted == goes)(*ends(archive, config)), "all is archived")
    place = tmp_path_factory.mktemp("again")
    given = yaml.safe_load(day.fleet.settings.read_text())
    given["sinks"]["bigquery"]["dataset"] = AGAIN
    given["sinks"]["elasticsearch"]["index_prefix"] = f"{AGAIN}-"
    settings = place / "odograph.yaml"
    settings.write_text(yaml.safe_dump(given))
    words = ("submit", "backfill", "--archive", day.folder / "archive", "--lake", place / "lake")
    into = ("--to", "lake,bigquery,elasticsearch", "--bindings", day.fleet.bindings)
    odograph(*words, *into, "--config", settings)
    return place / "lake"


def test_the_live_lake_is_that_of_a_backfill(day, again):
    """But for where a row was read from: a topic, or an object of the archive."""

    def equal():
        return differences(day.folder / "lake", again, "object", "line") == []

    until(equal, "the live lake equals the backfill's")


@pytest.mark.parametrize("table", stores.TABLES, ids=lambda table: table.name)
def test_a_backfill_writes_the_same_rows_to_both_stores(day, again, table):
    backfilled = in_elasticsearch(day.address, table, f"{AGAIN}-")
    live = in_elasticsearch(day.address, table)
    named = {
        (index.removeprefix(f"{AGAIN}-"), key): one for (index, key), one in backfilled.items()
    }
    assert named == live != {}
    elsewhere = day.bigquery.model_copy(update={"dataset": AGAIN})
    assert in_bigquery(elsewhere, table) == in_bigquery(day.bigquery, table) != {}


def test_what_the_stores_hold_is_counted(day):
    told = odograph("stores", "--config", day.fleet.settings)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.splitlines()]
    counted = {(row[0], row[1]): int(row[2].replace(",", "")) for row in rows if len(row) == 3}
    for table in stores.TABLES:
        wanted = day.expected[table].num_rows
        assert counted["bigquery", latest_name(table)] == wanted
        assert counted["elasticsearch", index_base("", table)] == wanted


def test_status_tells_that_nothing_waits_and_fails_when_a_sink_is_stopped(day):
    until(lambda: told(status(day.fleet), "sink-bigquery")[1] == 0, "nothing waits")
    assert "sink-bigquery" not in not_running(day.fleet)
    odograph("jobs", "cancel", "sink-bigquery", "--config", day.fleet.settings)
    ended = re.compile(r"│ sink-bigquery +│ CANCELED ")
    until(lambda: ended.search(status(day.fleet)), "the sink has ended")
    assert "sink-bigquery" in not_running(day.fleet)
    assert command.odograph("status", "--config", day.fleet.settings).returncode == 1
