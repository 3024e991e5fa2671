"""The fleet day says what the truth says, is one file, and bears a nearly empty lake."""

import json
import re
import shutil
from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

import nbformat
import pytest
from click.testing import CliRunner

from notebooks.render import FLEET_DAY, execute, figures, main, page
from runners.simulation.simulator import Scenario, simulate
from tests.support.lakes import backfill

pytestmark = pytest.mark.days

DAY = "2024-01-15"
SEOUL = ZoneInfo("Asia/Seoul")
MISBEHAVE = frozenset({"M05", "M06", "M10", "M11", "M13", "M17", "M21"})
POSITION_RULES = {"GPS_ZERO": "M10", "GPS_STALE": "M13", "GPS_JUMP": "M11"}
LOADING = re.compile(
    r"<script|<link|<iframe|@import|url\(|\b(?:src|href)\s*=\s*(?![\"']?(?:data:|#))", re.IGNORECASE
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    out = tmp_path_factory.mktemp("fleet")
    start = datetime.fromisoformat(f"{DAY}T07:00+09:00")
    simulate(out, Scenario(vehicles=4, hours=3, seed=11, misbehave=MISBEHAVE, start=start))
    ledger = backfill(out, out / "lake")
    return out / "lake", json.loads((out / "truth.json").read_bytes()), ledger


@pytest.fixture(scope="module")
def book(fleet):
    return execute(FLEET_DAY, {"lake": str(fleet[0]), "day": DAY})


@pytest.fixture(scope="module")
def shown(book):
    return figures(book)


def minutes_of_day(truth):
    columns = truth["minutes"]
    dates = (datetime.fromtimestamp(at / 1000, SEOUL).date() for at in columns["minute"])
    return [number for number, date in enumerate(dates) if str(date) == DAY]


def cases(truth, rule):
    return truth["misbehaviours"][rule]["cases"]


@pytest.mark.parametrize("name", ["distance_gps_m", "driving_s", "idle_s", "ignition_on_s"])
def test_totals_are_the_truth(fleet, shown, name):
    column = fleet[1]["minutes"][name]
    total = sum(column[number] for number in minutes_of_day(fleet[1]))
    assert total > 0
    assert shown[name.replace("distance_gps_m", "distance_m")] == pytest.approx(total, rel=1e-5)


def test_vehicles_and_minutes_are_the_truth(fleet, shown):
    _, truth, _ = fleet
    chosen = minutes_of_day(truth)
    assert shown["minutes"] == len(chosen)
    assert shown["vehicles"] == len({truth["minutes"]["vehicle_id"][number] for number in chosen})


def test_dead_letters_are_those_of_truth_and_ledger(fleet, shown):
    _, truth, ledger = fleet
    assert ledger["totals"]["dead"] > 0
    assert shown["dead_letters"] == ledger["totals"]["dead"]
    assert shown["dead_by_reason"] == Counter(
        case["error_type"] for case in cases(truth, "M17") if "error_type" in case
    )


def test_rows_are_those_of_the_ledger(fleet, shown):
    assert shown["rows"] == fleet[2]["totals"]["samples"]


def test_bad_clocks_are_those_of_the_truth(fleet, shown):
    spoiled = [case for rule in ("M05", "M06") for case in cases(fleet[1], rule)]
    for source, name in (("DEVICE_CORRECTED", "corrected"), ("RECEIVED_FALLBACK", "fallback")):
        wanted = {case["device_no"] for case in spoiled if case["time_source"] == source}
        assert wanted
        assert {one for one, found in shown["bad_clocks"].items() if found[name]} == wanted


@pytest.mark.parametrize("flag", POSITION_RULES)
def test_bad_positions_are_those_of_the_truth(fleet, shown, flag):
    wanted = Counter()
    for case in cases(fleet[1], POSITION_RULES[flag]):
        if flag in case["flags"]:
            wanted[case["device_no"]] += len(case["sample_idx"])
    assert wanted
    found = {terminal: flags[flag] for terminal, flags in shown["bad_positions"].items()}
    assert {terminal: number for terminal, number in found.items() if number} == wanted


def test_rows_without_a_vehicle_are_shown(shown):
    assert shown["not_bound"]["UNBOUND"] > 0


def test_page_loads_nothing(book):
    html = page(book)
    bare = re.sub(r"data:image/png;base64,[\w+/=\s]*", "data:", html)
    assert LOADING.findall(bare) == []
    assert "default-src 'none'" in html


def test_page_draws_every_chart_and_folds_the_code(book):
    html = page(book)
    assert html.count("<img") == 7
    assert html.count("<summary>code</summary>") == sum(c.cell_type == "code" for c in book.cells)


def test_one_parked_vehicle_and_missing_tables(fleet, tmp_path):
    lake = tmp_path / "lake"
    simulate(tmp_path, Scenario(vehicles=1, hours=0.1, seed=3))
    backfill(tmp_path, lake, types=("log",))
    assert {path.name for path in lake.iterdir()} <= {"_state", "telemetry_log", "vehicle_minutes"}
    shown = figures(execute(FLEET_DAY, {"lake": str(lake)}))
    assert shown["vehicles"] == 1
    assert shown["dead_by_reason"] == shown["bad_positions"] == {}


def test_nothing_but_dead_letters(fleet, tmp_path):
    shutil.copytree(fleet[0] / "dead_letters", tmp_path / "dead_letters")
    shown = figures(execute(FLEET_DAY, {"lake": str(tmp_path)}))
    assert (shown["date"], shown["vehicles"], shown["rows"]) == (DAY, 0, 0)
    assert shown["dead_letters"] == fleet[2]["totals"]["dead"]


def test_command_writes_a_page_of_an_empty_lake(tmp_path):
    out = tmp_path / "pages" / "day.html"
    (tmp_path / "lake").mkdir()
    done = CliRunner().invoke(main, ["--lake", str(tmp_path / "lake"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "The lake is empty." in out.read_text()


def test_a_lake_that_is_not_there_is_exit_code_2(tmp_path):
    out = tmp_path / "day.html"
    done = CliRunner().invoke(main, ["--lake", str(tmp_path / "lake"), "--out", str(out)])
    assert done.exit_code == 2
    assert "there is no such folder" in done.output
    assert not out.exists()


def test_the_notebook_is_stored_without_outputs():
    stored = nbformat.read(FLEET_DAY, as_version=4)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
