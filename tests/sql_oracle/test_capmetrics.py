"""The backfill of real bus days equals what SQL computes from the same files."""

from pathlib import Path

import pytest

from pipelines.backfill.spec import BackfillSpec
from runners.backfill.beam import run_backfill
from tests.sql_oracle.archives import DAYS, capmetrics_archive, spoil
from tests.sql_oracle.capmetrics import compare, oracle

pytestmark = pytest.mark.days


def check(archive: Path, lake: Path) -> None:
    bindings = archive / "device_binding.csv"
    ledger = run_backfill(BackfillSpec(str(archive), str(bindings), str(lake)))
    compare(lake, oracle(archive, bindings), ledger)


@pytest.mark.parametrize("arrival", ["file", "time"])
@pytest.mark.parametrize("day", DAYS)
def test_a_day_of_buses_equals_the_oracle(tmp_path, day, arrival):
    check(capmetrics_archive(tmp_path / "archive", day, "--arrival", arrival), tmp_path / "lake")


def test_a_day_with_speeds_in_their_own_unit_equals_the_oracle(tmp_path):
    check(capmetrics_archive(tmp_path / "archive", "2016-11-26", "--raw-speed"), tmp_path / "lake")


@pytest.mark.parametrize("day", DAYS)
def test_a_spoiled_day_equals_the_oracle(tmp_path, day):
    archive = capmetrics_archive(tmp_path / "archive", day)
    spoil(archive, seed=7)
    check(archive, tmp_path / "lake")
