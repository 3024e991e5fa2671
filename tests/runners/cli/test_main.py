"""The `odograph` command: what it says and with which code it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest

from runners.backfill import beam as backfill_module
from runners.cli import main as command_module
from runners.simulation.simulator import Scenario, simulate
from tests.repository.files import ROOT

pytestmark = pytest.mark.servers

ODOGRAPH = [sys.executable, "-m", "runners.cli.main"]
START = datetime.fromisoformat("2024-01-15T08:30+09:00")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    out = tmp_path_factory.mktemp("fleet")
    simulate(out, Scenario(vehicles=6, hours=2, seed=3, start=START))
    return out


def odograph(*words, **environment):
    return subprocess.run(
        [*ODOGRAPH, *map(str, words)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def backfill_words(fleet, lake, *more):
    places = ["--archive", fleet / "archive", "--bindings", fleet / "device_binding.csv"]
    return ["backfill", *places, "--lake", lake, *more]


def in_process(monkeypatch, capsys, *words):
    """Exit code, standard output and error of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["odograph", *map(str, words)])
    code = 0
    try:
        command_module.main()
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


def test_a_backfill_tells_what_became_of_all_uploads(fleet, tmp_path):
    ended = odograph(*backfill_words(fleet, tmp_path / "lake", "--ledger", tmp_path / "a/b.json"))
    assert (ended.returncode, ended.stderr) == (0, "")
    ledger = json.loads((tmp_path / "a/b.json").read_text())
    assert f"{ledger['totals']['samples']:,}" in ended.stdout
    assert f"facts lie in {tmp_path / 'lake'}" in ended.stdout
    assert all(ord(sign) != 27 for sign in ended.stdout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "lake"]


def test_a_ledger_that_does_not_balance_is_code_1(fleet, tmp_path, monkeypatch, capsys):
    run = backfill_module.run_backfill

    def lossy(*args):
        ledger = run(*args)
        ledger["by"][0]["good"] -= 1
        return ledger

    monkeypatch.setattr(backfill_module, "run_backfill", lossy)
    code, _, err = in_process(monkeypatch, capsys, *backfill_words(fleet, tmp_path / "lake"))
    assert (code, "does not balance" in err) == (1, True)


@pytest.mark.parametrize(
    "more, words",
    [
        (["--archive", "/nowhere/at/all"], ["--archive", "/nowhere/at/all", "topics/"]),
        (["--bindings", "/nowhere.csv"], ["/nowhere.csv", "does not exist"]),
        (["--types", "gps,gsp"], ["--types", "gsp", "kinematic"]),
        (["--from", "yesterday"], ["--from", "yesterday", "ISO"]),
        (["--from", "2024-01-16", "--to", "2024-01-15"], ["--from", "--to", "2024-01-1"]),
        (["--config", "/nowhere.yaml"], ["/nowhere.yaml", "No such file"]),
        (["--lakes", "foo"], ["--lakes", "did you mean --lake?"]),
        (["--direct_num_worker", "2"], ["did you mean --direct_num_workers"]),
        (["--direct_num_workers", "two"], ["--direct_num_workers", "two"]),
        (["--direct_running_mode", "fast"], ["--direct_running_mode", "fast", "multi_processing"]),
        (["stray"], ["stray"]),
        (["--runner", "Walker"], ["--runner", "Walker", "FlinkRunner"]),
        (["--ledger"], ["--ledger"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_wrong_argument_is_code_2_and_named(fleet, tmp_path, monkeypatch, capsys, more, words):
    given = backfill_words(fleet, tmp_path / "lake", *more)
    code, out, err = in_process(monkeypatch, capsys, *given)
    assert (code, out) == (2, "")
    assert [word for word in words if word not in err] == []
    assert len(err) < 1000 and not (tmp_path / "lake").exists()


@pytest.mark.parametrize("missing", ["--archive", "--bindings", "--lake"])
def test_an_argument_that_is_missing_is_code_2(fleet, tmp_path, monkeypatch, capsys, missing):
    words = backfill_words(fleet, tmp_path / "lake")
    at = words.index(missing)
    code, _, err = in_process(monkeypatch, capsys, *words[:at], *words[at + 2 :])
    assert code == 2 and missing in err


@pytest.mark.parametrize(
    "text, words",
    [
        ("rules:\n  clock:\n    future_tolerance: 3\n", ["rules.clock.future_tolerance", "3"]),
        ("fleet_zone: Mars/Olympus\n", ["fleet_zone", "Mars/Olympus", "Asia/Seoul"]),
        ("rules:\n  position:\n    jump_mps: fast\n", ["rules.position.jump_mps", "fast"]),
        ("rules:\n  position:\n    jump_mps: -1\n", ["jump_mps", "-1"]),
        ("s3:\n  secret: abc\n", ["s3.secret"]),
        ("- a\n- b\n", ["keys and values"]),
        ("a: [\n", ["not YAML"]),
        ("1: 2\n", ["texts"]),
    ],
    ids=lambda value: value.split()[-1] if isinstance(value, str) else "",
)
@pytest.mark.parametrize("by", ["config check", "backfill"])
def test_a_wrong_setting_is_code_2_and_named(fleet, tmp_path, monkeypatch, capsys, text, words, by):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    given = ["config", "check", path]
    if by == "backfill":
        given = backfill_words(fleet, tmp_path / "lake", "--config", path)
    code, out, err = in_process(monkeypatch, capsys, *given)
    assert (code, out) == (2, "")
    assert [word for word in [str(path), *words] if word not in err] == []


def test_config_check_says_what_a_file_amounts_to(tmp_path, monkeypatch, capsys):
    path = tmp_path / "settings.yaml"
    path.write_text("rules:\n  position:\n    jump_mps: 80\n")
    code, out, _ = in_process(monkeypatch, capsys, "config", "check", path)
    assert code == 0 and json.loads(out)["rules"]["position"]["jump_mps"] == 80
    path.write_text("")
    assert in_process(monkeypatch, capsys, "config", "check", path)[0] == 0


def test_a_setting_reaches_the_job(fleet, tmp_path, monkeypatch, capsys):
    path = tmp_path / "settings.yaml"
    path.write_text("fleet_zone: UTC\n")
    words = backfill_words(fleet, tmp_path / "lake", "--config", path)
    assert in_process(monkeypatch, capsys, *words)[0] == 0
    assert (tmp_path / "lake/telemetry_gps/date=2024-01-14/hour=23").is_dir()
    ledger = json.loads((tmp_path / "lake/_state/ledger.json").read_text())
    assert ledger["totals"]["in"] > 0


def test_schemas_check(tmp_path, monkeypatch, capsys):
    code, out, _ = in_process(monkeypatch, capsys, "schemas", "check")
    assert code == 0 and "problems: 0\n" in out
    (tmp_path / "bad.avsc").write_text('{"type": "record", "name": "bad", "fields": []}')
    code, out, _ = in_process(monkeypatch, capsys, "schemas", "check", tmp_path)
    assert code == 2 and "bad" in out
    code, _, err = in_process(monkeypatch, capsys, "schemas", "check", tmp_path / "none")
    assert code == 2 and "none" in err


def test_a_lake_that_cannot_be_written_is_code_3(fleet, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    words = backfill_words(fleet, tmp_path / "file" / "lake")
    code, out, err = in_process(monkeypatch, capsys, *words)
    assert (code, out) == (3, "")
    assert str(tmp_path / "file") in err and "Not a directory" in err
    assert len(err.splitlines()) == 1


def test_a_table_that_cannot_be_written_is_code_3_without_a_traceback(fleet, tmp_path):
    """The failure happens in a worker, deep within Beam."""
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "telemetry_gps").write_text("in the way")
    ended = odograph(*backfill_words(fleet, tmp_path / "lake"))
    assert (ended.returncode, ended.stdout) == (3, "")
    assert len(ended.stderr.splitlines()) == 1 and "telemetry_gps" in ended.stderr
    assert not list((tmp_path / "lake").rglob("dead_letters/*"))
    assert not [p for p in (tmp_path / "lake").rglob(".*") if p.is_file()]


def test_a_ledger_file_that_cannot_be_written_is_code_3(fleet, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    words = backfill_words(fleet, tmp_path / "lake", "--ledger", tmp_path / "file" / "ledger.json")
    code, _, err = in_process(monkeypatch, capsys, *words)
    assert code == 3 and "ledger.json" in err


def test_only_some_types(fleet, tmp_path, monkeypatch, capsys):
    lake = tmp_path / "lake"
    words = backfill_words(fleet, lake, "--types", "gps, log")
    assert in_process(monkeypatch, capsys, *words)[0] == 0
    tables = sorted(path.name for path in lake.glob("[!_]*"))
    assert tables == ["telemetry_gps", "telemetry_log", "vehicle_minutes"]


@pytest.mark.parametrize(
    "more, hours",
    [
        ([], ["08", "09", "10"]),
        (["--from", "2024-01-15T09:00"], ["09", "10"]),
        (["--from", "2024-01-15T09:59:59.999"], ["09", "10"]),
        (["--from", "2024-01-15T10:00"], ["10"]),
        (["--to", "2024-01-15T09:00"], ["08"]),
        (["--to", "2024-01-15T09:00:01"], ["08", "09"]),
        (["--from", "2024-01-15T00:00Z", "--to", "2024-01-15T01:00Z"], ["09"]),
        (["--to", "2024-01-15"], []),
    ],
    ids=lambda value: " ".join(value),
)
def test_from_and_to_choose_whole_hours(fleet, tmp_path, monkeypatch, capsys, more, hours):
    ledger = tmp_path / "ledger.json"
    words = backfill_words(fleet, tmp_path / "lake", "--ledger", ledger, "--types", "log", *more)
    assert in_process(monkeypatch, capsys, *words)[0] == 0
    found = {line["hour"][-2:] for line in json.loads(ledger.read_text())["by"]}
    assert found == set(hours) & {"08", "09", "10"} - ({"10"} - found)


@pytest.mark.parametrize("name", ["vehicle_minutes", "_state/register"])
@pytest.mark.parametrize("workers", [[], ["--direct_num_workers", "2", "--direct_running_mode",
                                           "multi_processing"]], ids=["one", "two"])  # fmt: skip
def test_interrupting_ends_it_cleanly(tmp_path, big, name, workers):
    lake = tmp_path / "lake"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [*ODOGRAPH, *map(str, backfill_words(big, lake, *workers))],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not (lake / name).exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert out == "" and "interrupted" in err
    assert workers or len(err.strip().splitlines()) == 1
    assert not [path for path in lake.rglob(".*") if path.is_file()]
    assert not list(temporary.glob("odograph-*"))


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    out = tmp_path_factory.mktemp("big")
    simulate(out, Scenario(vehicles=46, hours=3, seed=3, start=START))
    return out


def test_help_says_what_to_type():
    ended = odograph("--help")
    assert ended.returncode == 0
    for word in ("simulate", "backfill", "schemas", "config", "Exit codes", "--archive"):
        assert word in ended.stdout


@pytest.mark.parametrize("name", ["simulate", "backfill", "config check", "schemas check"])
def test_help_of_a_command_explains_every_option(name, monkeypatch, capsys):
    code, out, _ = in_process(monkeypatch, capsys, *name.split(), "--help")
    lines = [line for line in out.splitlines() if line.startswith("  -")]
    assert code == 0
    assert [line for line in lines if len(line.split("  ")) < 3 and line.strip() == line] == []


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        (["--help"], ["apache_beam", "pandas"]),
        (["topics", "apply", "--help"], ["apache_beam", "botocore", "psycopg", "pyarrow"]),
        (["submit", "convert", "--help"], ["apache_beam", "psycopg", "elasticsearch"]),
    ],
    ids=" ".join,
)
def test_a_command_starts_without_libraries_that_others_need(words, unneeded):
    program = (
        f"import sys; sys.argv = ['odograph', *{words}]; import runners.cli.main as c\n"
        "try: c.main()\nexcept SystemExit: pass\n"
        f"found = sys.modules.keys() & {unneeded}; assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_of_progress_where_nobody_looks(tmp_path):
    assert odograph("simulate", "--out", tmp_path / "fleet", "--hours", "0.1").stderr == ""


def test_a_fleet_from_the_command_line_is_the_one_asked_for(tmp_path, monkeypatch, capsys):
    words = ["simulate", "--out", tmp_path / "a", "--vehicles", 3, "--hours", 0.5, "--seed", 9]
    code, out, _ = in_process(monkeypatch, capsys, *words, "--misbehave", "m01, M17")
    assert code == 0 and "device_binding.csv" in out
    parameters = json.loads((tmp_path / "a" / "truth.json").read_bytes())["parameters"]
    assert parameters["misbehave"] == ["M01", "M17"] and parameters["seed"] == 9


def test_a_misbehaviour_nobody_knows_is_code_2(tmp_path, monkeypatch, capsys):
    words = ["simulate", "--out", tmp_path, "--misbehave", "M99"]
    code, _, err = in_process(monkeypatch, capsys, *words)
    assert code == 2 and "M99" in err and "M01" in err


def test_a_bug_is_no_other_code(fleet, tmp_path, monkeypatch, capsys):
    def fail(*args):
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(backfill_module, "run_backfill", fail)
    code, _, err = in_process(monkeypatch, capsys, *backfill_words(fleet, tmp_path / "lake"))
    assert code == 70 and "of all things" in err and "bug" in err
