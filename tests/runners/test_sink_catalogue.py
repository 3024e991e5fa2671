"""A sink is one entry of the catalogue: all that names sinks follows from it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from connectors.sinks.catalogue import CATALOGUE, MINUTES_TABLE, TELEMETRY_TABLES
from connectors.sinks.tables import TABLES
from runners.flink.live_job import SINK_BUILT_BY
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
        self.settings, self.prepared = settings, ()
    def prepare(self, tables):
        self.prepared = tuple(table.name for table in tables)
        print("prepared", *self.prepared)
    def close(self):
        print("closed")

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


def with_made_up_sink(tmp_path, program, *words, settings=SETTINGS):
    """What a fresh interpreter that knows one sink more prints for a program."""
    path = tmp_path / "odograph.yaml"
    path.write_text(settings)
    done = subprocess.run(
        [sys.executable, "-c", MADE_UP + program, *words],
        cwd=ROOT,
        env={"SETTINGS": str(path), "PATH": "", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


COMMAND = """
import os
from runners.cli.main import odograph
odograph([word.replace("SETTINGS", os.environ["SETTINGS"]) for word in sys.argv[1:]])
"""


def test_the_settings_file_has_it(tmp_path):
    assert '"drawers": 5' in with_made_up_sink(tmp_path, COMMAND, "config", "check", "SETTINGS")


def test_a_wrong_setting_of_it_is_named(tmp_path):
    program = """
import os
from connectors.errors import BadSettings
from runners.config import load_config
try:
    load_config(os.environ["SETTINGS"])
except BadSettings as error:
    print(error)
"""
    wrong = SETTINGS.replace("5", "many")
    assert "sinks.cupboard.drawers: " in with_made_up_sink(tmp_path, program, settings=wrong)


def test_it_has_a_job(tmp_path):
    program = """
import os
from runners.config import load_config
from runners.flink.live_job import BUILT_BY, JOBS, LiveJob
assert "sink-cupboard" in JOBS and BUILT_BY["sink-cupboard"] == BUILT_BY["sink-bigquery"]
job = LiveJob(job="sink-cupboard", config=load_config(os.environ["SETTINGS"]), python="python")
job = LiveJob.model_validate_json(job.model_dump_json())
assert job.live().store == CupboardSettings(drawers=5), job.live().store
assert "vehicle-minutes" in job.reads and job.binds and job.linger_ms == 40
print(job.job_name, job.uid_prefix)
"""
    assert with_made_up_sink(tmp_path, program) == "odograph-sink-cupboard cupboard: \n"


def test_it_is_opened_by_its_settings(tmp_path):
    program = """
from connectors.operations_db.settings import DatabaseSettings
from connectors.storage.settings import S3Settings
from pipelines.open_sink import check_store
check_store(CupboardSettings(), DatabaseSettings(), S3Settings())
"""
    told = "prepared telemetry_gps vehicle_minutes\nclosed\n"
    assert with_made_up_sink(tmp_path, program) == told


def test_it_has_a_command(tmp_path):
    told = with_made_up_sink(tmp_path, COMMAND, "submit", "sink", "--help")
    assert "cupboard" in told and "Put facts into drawers." in told


def test_all_sinks_include_it(tmp_path):
    program = """
import os
from runners.cli.submit import _every_sink
from runners.config import load_config
print(*_every_sink(load_config(os.environ["SETTINGS"])))
"""
    assert with_made_up_sink(tmp_path, program) == "sink-cupboard\n"


def test_a_backfill_may_write_to_it(tmp_path):
    program = """
import os
from runners.backfill.request import stores_of
from runners.cli.backfill_options import End
from runners.config import load_config
names = End().convert("lake,cupboard", None, None)
print(stores_of(names, load_config(os.environ["SETTINGS"])))
"""
    assert "drawers=5" in with_made_up_sink(tmp_path, program)


def test_stores_counts_it(tmp_path):
    told = with_made_up_sink(tmp_path, COMMAND, "stores", "--config", "SETTINGS")
    assert "cupboard" in told and "drawer" in told and " 5 " in told


def test_status_shows_it(tmp_path):
    program = """
import os
from runners.cli import status
from runners.config import load_config
status.spans = lambda kafka, topics: {}
status.committed = lambda kafka, group, spans: {}
class Cluster:
    def jobs(self):
        return []
jobs = status.statuses(load_config(os.environ["SETTINGS"]), Cluster())
print([job.job for job in jobs if job.down])
"""
    assert with_made_up_sink(tmp_path, program) == "['sink-cupboard']\n"


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
