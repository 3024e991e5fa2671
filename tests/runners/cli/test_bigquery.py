"""The command that makes and tends BigQuery's tables."""

from datetime import date

import orjson
import pytest
import yaml

from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.bigquery.sink import BigQuerySink
from connectors.sinks.tables import TELEMETRY
from runners.cli.bigquery import _days
from runners.stack.faults.http_proxy import FaultProxy
from runners.stack.faults.rules import Answer
from runners.stack.servers.bigquery import PROJECT
from tests.connectors.sinks.bigquery.rows import many
from tests.support.command import odograph

pytestmark = pytest.mark.servers

GPS = TELEMETRY["gps"]


@pytest.fixture
def settings(bigquery):
    return {**bigquery.settings, "dataset": "by_command"}


@pytest.fixture
def config(settings, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"sinks": {"bigquery": settings}}))
    return path


def test_prepared_tables_take_rows_and_compacted_ones_hold_each_key_once(config, settings):
    prepared = odograph("bigquery", "prepare", "--config", str(config))
    assert (prepared.returncode, prepared.stderr) == (0, "")
    assert f"{PROJECT}.by_command.telemetry_gps: as declared" in prepared.stdout
    sink = BigQuerySink(BigQuerySettings(**settings))
    rows = many(GPS, 5)
    for _ in range(3):
        sink.write(GPS, rows)
    day = rows[GPS.time][0].as_py().date()
    dates = ["--from", str(day), "--to", str(day)]
    compacted = odograph("bigquery", "compact", "--config", str(config), *dates)
    assert (compacted.returncode, compacted.stderr) == (0, "")
    assert f"telemetry_gps {day}: one row per key" in compacted.stdout
    client = sink.dataset.rest.client
    counted = client.query("SELECT COUNT(*) n FROM by_command.telemetry_gps").result()
    assert [one["n"] for one in counted] == [5]
    sink.close()


def test_compacting_says_what_it_leaves_for_later(bigquery, settings, tmp_path):
    words = "UPDATE or DELETE statement would affect rows in the streaming buffer"
    body = {"error": {"code": 400, "message": words, "errors": [{"reason": "invalidQuery"}]}}
    path = tmp_path / "config.yaml"
    with FaultProxy(bigquery.address) as proxy:
        through = settings | {"api_endpoint": proxy.url}
        path.write_text(yaml.safe_dump({"sinks": {"bigquery": through}}))
        proxy.rule("POST", "/jobs", Answer(400, orjson.dumps(body)))
        dates = ["--from", "2026-01-05", "--to", "2026-01-05"]
        done = odograph("bigquery", "compact", "--config", str(path), *dates)
    assert (done.returncode, done.stderr) == (0, "")
    assert "telemetry_gps 2026-01-05: left for later" in done.stdout


def test_a_config_without_the_sink_is_code_2(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("")
    done = odograph("bigquery", "prepare", "--config", str(path))
    assert done.returncode == 2
    assert "sinks.bigquery is not set" in done.stderr


def test_both_dates_are_meant():
    assert _days(date(2026, 1, 30), date(2026, 2, 1)) == [
        date(2026, 1, 30), date(2026, 1, 31), date(2026, 2, 1)
    ]  # fmt: skip


def test_dates_the_wrong_way_round_are_code_2(config):
    dates = ["--from", "2026-01-02", "--to", "2026-01-01"]
    done = odograph("bigquery", "compact", "--config", str(config), *dates)
    assert done.returncode == 2
    assert "--to 2026-01-01 is before --from 2026-01-02" in done.stderr
