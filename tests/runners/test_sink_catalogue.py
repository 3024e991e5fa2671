"""A sink is one entry of the catalogue: all that names sinks follows from it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.kafka import topics
from connectors.sinks.catalogue import CATALOGUE, MINUTES_TABLE, TELEMETRY_TABLES
from connectors.sinks.tables import TABLES
from runners.flink.live_job import BUILT_BY, SINK_BUILT_BY
from tests.repository.files import PACKAGES, ROOT

HOME = ROOT / "connectors" / "sinks" / "catalogue.py"

MADE_UP = """\
from collections import Counter
import sys
from connectors.retries import DeliverySettings
from connectors.sinks import catalogue

class CupboardSettings(DeliverySettings):
    drawers: int = 3
    linger_ms: int = 40

class Cupboard:
    def __init__(self, settings, database):
        pass
    def prepare(self, tables):
        calls.append(["prepare", *(table.name for table in tables)])
    def close(self):
        calls.append(["close"])

calls = []

catalogue.CATALOGUE["cupboard"] = catalogue.SinkEntry(
    name="cupboard",
    settings=CupboardSettings,
    takes="rows",
    tables=("telemetry_gps", "vehicle_minutes"),
    help="Put facts into drawers.",
    count_rows=lambda settings, database, s3: Counter(drawer=settings.drawers),
    open=Cupboard,
)
"""

SETTINGS = """\
flink: {url: "http://127.0.0.1:1"}
sinks:
  cupboard: {drawers: 5}
"""

PROBES = """
import json, os
from click.testing import CliRunner
from connectors.errors import BadSettings
from connectors.operations_db.settings import DatabaseSettings
from connectors.storage.settings import S3Settings
from pipelines.open_sink import check_store
from pipelines.backfill.spec import BackfillSpec
from runners.backfill.request import with_settings
from runners.cli import status
from runners.cli.backfill_options import End
from runners.cli.main import odograph
from runners.config import load_config
from runners.flink.live_job import BUILT_BY, JOBS, LiveJob

path, wrong_path = sys.argv[1:]
config = load_config(path)
spec = BackfillSpec(archive="archive", bindings="bindings.csv", lake="lake", spool="spool")

def printed_by(*words):
    return CliRunner().invoke(odograph, words, catch_exceptions=False).output

def refusal():
    try:
        load_config(wrong_path)
    except BadSettings as error:
        return str(error)

def checked():
    calls.clear()
    check_store(CupboardSettings(), DatabaseSettings(), S3Settings())
    return calls

def job():
    job = LiveJob(job="sink-cupboard", config=config, python="python")
    job = LiveJob.model_validate_json(job.model_dump_json())
    return {
        "listed": "sink-cupboard" in JOBS, "built by": BUILT_BY["sink-cupboard"],
        "name": job.job_name, "uid prefix": job.uid_prefix, "reads": job.reads,
        "binds": job.binds, "linger_ms": job.linger_ms, "drawers": job.live().store.drawers,
    }

class Cluster:
    def jobs(self):
        return []

def down():
    status.spans = lambda kafka, topics: {}
    status.committed = lambda kafka, group, spans: {}
    return [job.job for job in status.statuses(config, Cluster()) if job.down]

print(json.dumps({
    "config check": printed_by("config", "check", path),
    "refusal": refusal(),
    "job": job(),
    "checked": checked(),
    "submit sink": printed_by("submit", "sink", "--help"),
    "submit sink cupboard": printed_by("submit", "sink", "cupboard", "--help"),
    "to": repr(with_settings(spec, config, End().convert("lake,cupboard", None, None)).stores),
    "stores": printed_by("stores", "--config", path),
    "down": down(),
}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a fresh interpreter that knows one sink more says where sinks are named."""
    folder = tmp_path_factory.mktemp("settings")
    (folder / "right.yaml").write_text(SETTINGS)
    (folder / "wrong.yaml").write_text(SETTINGS.replace("5", "many"))
    done = subprocess.run(
        [sys.executable, "-c", MADE_UP + PROBES, folder / "right.yaml", folder / "wrong.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_settings_file_has_it(found):
    assert json.loads(found["config check"])["sinks"]["cupboard"]["drawers"] == 5


def test_a_wrong_setting_of_it_is_named(found):
    assert "sinks.cupboard.drawers: " in found["refusal"]


def test_it_has_a_job(found):
    assert found["job"] == {
        "listed": True,
        "built by": BUILT_BY["sink-bigquery"],
        "name": "odograph-sink-cupboard",
        "uid prefix": "cupboard: ",
        "reads": [*topics.DEVICE_TOPICS, topics.MINUTES],
        "binds": True,
        "linger_ms": 40,
        "drawers": 5,
    }


def test_it_is_opened_by_its_settings(found):
    assert found["checked"] == [["prepare", "telemetry_gps", "vehicle_minutes"], ["close"]]


def test_it_has_a_command(found):
    assert re.search(r"cupboard +Put facts into drawers\.", found["submit sink"])
    assert "Put facts into drawers." in found["submit sink cupboard"]


def test_a_backfill_may_write_to_it(found):
    assert "drawers=5" in found["to"]


def test_stores_counts_it(found):
    assert re.search(r"cupboard\W+drawer\W+5\b", found["stores"])


def test_status_misses_its_job(found):
    assert found["down"] == ["sink-cupboard"]


def test_entries_agree_with_the_tables_of_facts_and_the_jobs():
    assert set(TABLES) == {*TELEMETRY_TABLES, MINUTES_TABLE}
    classes = [entry.settings for entry in CATALOGUE.values()]
    assert len(set(classes)) == len(classes)
    for name, entry in CATALOGUE.items():
        assert entry.name == name and set(entry.tables) <= set(TABLES)
        assert (entry.open is None) == (entry.folder_of is not None)
        assert entry.takes in SINK_BUILT_BY


def kinds_asked_for(path: Path):
    """Line and class of each `isinstance` in a file."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            for kind in ast.walk(node.args[1]):
                if isinstance(kind, ast.Name | ast.Attribute):
                    yield node.lineno, getattr(kind, "id", None) or kind.attr


def test_nobody_else_asks_which_store_settings_are_of():
    settings = {entry.settings.__name__ for entry in CATALOGUE.values()}
    sinks = {"BigQuerySink", "ElasticsearchSink", "StateStore"}
    assert [
        f"{path.relative_to(ROOT)}:{line}: {kind}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, kind in kinds_asked_for(path)
        if path != HOME and kind in settings | sinks
    ] == []
