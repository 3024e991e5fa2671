"""Facts of a simulated day in which everything goes wrong, against what is really true."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.backfill.ledger import COUNTED, balances
from runners.simulation.simulator import Scenario, simulate
from tests.simulated_day.compare import differences
from tests.support.lakes import backfill

pytestmark = pytest.mark.days


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    out = tmp_path_factory.mktemp("day")
    simulate(out, Scenario(vehicles=50, hours=24, seed=7, misbehave=frozenset({"all"})))
    ledger = backfill(out, out / "lake")
    return out, ledger


def test_facts_and_ledger_are_the_truth(day):
    out, ledger = day
    assert differences(out / "lake", out / "truth.json", ledger) == []


def test_the_ledger_balances_per_topic_partition_and_hour(day):
    ledger = day[1]
    assert balances(ledger)
    places = [(line["topic"], line["partition"], line["hour"]) for line in ledger["by"]]
    assert len(set(places)) == len(places) > 400
    for name in ("in", *COUNTED, "samples", "duplicate_samples"):
        assert sum(line[name] for line in ledger["by"]) == ledger["totals"][name]


def test_the_tables_hold_what_the_ledger_says(day):
    out, ledger = day
    rows: Counter[str] = Counter()
    for path in Path(out / "lake").glob("[!_]*/*/*/*.parquet"):
        rows[path.relative_to(out / "lake").parts[0]] += pq.read_metadata(path).num_rows
    telemetry = sum(count for table, count in rows.items() if table.startswith("telemetry_"))
    assert telemetry == ledger["totals"]["samples"]
    assert rows["dead_letters"] == ledger["totals"]["dead"]
    assert rows["vehicle_minutes"] == ledger["vehicle_minutes"]
