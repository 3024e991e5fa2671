"""`odograph database` as people and scripts meet it."""

import sys

import pytest
import yaml

import runners.cli.main as command
from connectors.operations_db import read
from runners.simulation.vehicles import made_up
from tests.support.database import new_database

pytestmark = pytest.mark.servers

HEAD = "device_no,vehicle_id,valid_from,valid_to,binding_version\n"
ROWS = "0001,V1,2024-01-15T00:00:00Z,,1\n0002,V2,2024-01-15T00:00:00+09:00,,1\n"
CLAIM = "0001,V2,2024-01-16T00:00:00Z,2024-01-17T00:00:00Z,1\n"


@pytest.fixture
def database(postgres):
    return new_database(postgres, tables=False)


@pytest.fixture
def config(tmp_path, database):
    """Writes the settings file anew, with more sections."""
    path = tmp_path / "odograph.yaml"

    def one(**sections):
        given = {"bindings_database": database.settings().model_dump(), **sections}
        path.write_text(yaml.safe_dump(given))
        return path

    return one


@pytest.fixture
def odograph(monkeypatch, capsys, config):
    """Runs `odograph database` in this process: exit code, stdout, stderr."""
    path = config()

    def run(*words):
        words = ["odograph", "database", words[0], "--config", str(path), *map(str, words[1:])]
        monkeypatch.setattr(sys, "argv", words)
        code = 0
        try:
            command.main()
        except SystemExit as ended:
            code = ended.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def write(tmp_path):
    def one(text, name="bindings.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return one


def test_tables_are_made_once_however_often_they_are_applied(odograph):
    for _ in range(2):
        code, out, _ = odograph("apply")
        assert (code, "the tables are as declared" in out) == (0, True)


def tables(database):
    found = database.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in found}


def test_the_tables_of_state_are_made_too(odograph, database):
    odograph("apply")
    assert {"vehicle", "device_binding", "vehicle_state", "device_state"} <= tables(database)


def test_the_tables_of_state_are_made_where_the_sink_writes(odograph, database, postgres, config):
    other = new_database(postgres, tables=False)
    config(sinks={"state": {k: getattr(other.settings(), k) for k in ("conninfo", "password")}})
    _, out, _ = odograph("apply")
    assert f"database {database.name} at" in out
    assert f"database {other.name} at" in out
    assert "vehicle_state" not in tables(database)
    assert tables(other) == {"vehicle_state", "device_state"}


def test_loading_without_tables_says_what_to_run(odograph, write):
    code, _, err = odograph("load", "--bindings", write(HEAD + ROWS))
    assert code == command.FAILED
    assert "odograph database apply" in err


def test_a_bindings_file_is_loaded_and_its_vehicles_are_made_up(odograph, write, database):
    odograph("apply")
    code, out, _ = odograph("load", "--bindings", write(HEAD + ROWS))
    assert (code, out) == (0, "2 bindings written, 0 removed; 2 vehicles made up written; "
                              "what was so already was left\n")  # fmt: skip
    found = read.read(database.settings())
    assert found.bindings.num_rows == found.vehicles.num_rows == 2
    assert "" not in found.vehicles["plate_no"].to_pylist()


def test_real_vehicles_come_from_a_file(odograph, write, database):
    odograph("apply")
    known = write("vehicle_id,plate_no,model_name\nV1,12가3456,RAY\n", "vehicles.csv")
    code, _, _ = odograph("load", "--bindings", write(HEAD + ROWS), "--vehicles", known)
    assert code == 0
    assert database.run("SELECT vehicle_id, plate_no FROM vehicle") == [("V1", "12가3456")]


def test_a_claimed_terminal_is_refused_unless_it_may_be_unbound(odograph, write, database):
    odograph("apply")
    path = write(HEAD + ROWS + CLAIM)
    code, _, err = odograph("load", "--bindings", path)
    assert (code, "--ambiguous-as-unbound" in err) == (command.WRONG, True)
    assert database.run("SELECT count(*) FROM device_binding") == [(0,)]
    code, _, err = odograph("load", "--bindings", path, "--ambiguous-as-unbound")
    assert (code, "1 intervals" in err) == (0, True)


def test_missing_files_and_settings_are_named(odograph, write, tmp_path, monkeypatch, capsys):
    odograph("apply")
    assert odograph("load", "--bindings", tmp_path / "none.csv")[0] == command.WRONG
    bindings = write(HEAD + ROWS)
    code, _, err = odograph("load", "--bindings", bindings, "--vehicles", tmp_path / "none.csv")
    assert (code, "none.csv does not exist" in err) == (command.WRONG, True)
    empty = write("", "empty.yaml")
    monkeypatch.setattr(sys, "argv", ["odograph", "database", "apply", "--config", str(empty)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == command.WRONG
    assert "bindings_database.conninfo" in capsys.readouterr().err


def test_a_made_up_vehicle_is_always_the_same():
    assert made_up(["V1", "V2"]).equals(made_up(["V1", "V2"]))
