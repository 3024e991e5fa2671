"""`odograph elasticsearch` as people and scripts meet it."""

import json
import sys
from datetime import UTC, datetime, timedelta

import pytest
import yaml

import runners.cli.main as command

pytestmark = pytest.mark.servers

PREFIX = "command-"


def day(back):
    return f"{PREFIX}telemetry-gps-{datetime.now(UTC) - timedelta(days=back):%Y.%m.%d}"


@pytest.fixture
def node(elasticsearch):
    yield elasticsearch
    for name in names(elasticsearch):
        elasticsearch.ask("DELETE", f"/{name}")


@pytest.fixture
def odograph(monkeypatch, capsys, tmp_path, node):
    """Runs `odograph elasticsearch` in this process: exit code, stdout, stderr."""
    path = tmp_path / "odograph.yaml"
    store = {"hosts": [node.address], "index_prefix": PREFIX, "replicas": 0, "searchable_days": 5}
    path.write_text(yaml.safe_dump({"sinks": {"elasticsearch": store}}))

    def run(*words, config=path):
        words = ["odograph", "elasticsearch", words[0], "--config", str(config), *words[1:]]
        monkeypatch.setattr(sys, "argv", words)
        code = 0
        try:
            command.main()
        except SystemExit as ended:
            code = ended.code or 0
        return code, *capsys.readouterr()

    return run


def names(node):
    return sorted(json.loads(node.ask("GET", f"/{PREFIX}*?filter_path=*.settings.index.uuid")))


def test_prepare_may_be_repeated(odograph, node):
    for _ in range(2):
        code, told, _ = odograph("prepare")
        assert code == 0
        assert f"{node.address}: templates of 6 tables" in told
    assert names(node) == [f"{PREFIX}vehicles"]
    template = node.ask("GET", f"/_index_template/{PREFIX}telemetry-gps")
    assert json.loads(template)["index_templates"]


def test_prune_deletes_old_days_once_it_was_only_asked(odograph, node):
    for back in (0, 2, 5, 6, 40):
        node.ask("PUT", f"/{day(back)}")
    code, told, _ = odograph("prune", "--dry-run")
    assert (code, told) == (0, f"{day(40)}\n{day(6)}\n2 indices would be deleted\n")
    assert len(names(node)) == 5
    code, told, _ = odograph("prune")
    assert (code, told.splitlines()[-1]) == (0, "2 indices deleted")
    assert names(node) == sorted(day(back) for back in (0, 2, 5))
    code, told, warned = odograph("prune", "--keep-days", "1")
    assert (code, told.splitlines()[-1]) == (0, "2 indices deleted")
    assert "searchable_days to 1" in warned
    assert names(node) == [day(0)]


def test_a_store_that_is_not_set_is_named(odograph, tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    code, _, told = odograph("prune", config=tmp_path / "empty.yaml")
    assert code == 2
    assert "sinks.elasticsearch is not set" in told
