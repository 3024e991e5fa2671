"""A backfill as phases comes to the same as one job, also where workers are lost."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from pipelines.backfill.phases import run, work, work_items_of
from pipelines.backfill.work_items import WorkItems
from runners.backfill.request import checked, listing_of, with_names
from tests.support.lakes import differences, spec_of

pytestmark = pytest.mark.days


class Losing:
    """Does every item in this process; a worker is lost after `work` did an item but before that
    was known, for every item that `loses` says."""

    def __init__(self, job, loses) -> None:
        self.job, self.loses = job, loses

    def __call__(self, phase: str, count: int) -> None:
        work_items = work_items_of(self.job, phase)
        for number in range(count):
            work(self.job, phase, number, work_items.shared())
            if self.loses(phase, number):
                for path in Path(work_items.folder.path).rglob(f"{number:09d}"):
                    os.unlink(path)
                work(self.job, phase, number, work_items.shared())


def phased(fleet: Path, lake: Path, loses=lambda phase, number: False) -> dict:
    spool = str(lake.parent / f"{lake.name}-spool")
    job = spec_of(fleet / "archive", fleet / "device_binding.csv", lake)
    job = replace(checked(job), spool=spool)
    listing = listing_of(job)
    return with_names(run(job, listing.objects, Losing(job, loses)), listing)


def test_phases_equal_the_one_job(fleet, whole, tmp_path):
    ledger = phased(fleet, tmp_path / "lake")
    assert differences(whole[0], tmp_path / "lake") == []
    assert ledger == whole[1]


def test_items_of_lost_workers_are_done_again_with_the_same_outcome(fleet, whole, tmp_path):
    ledger = phased(fleet, tmp_path / "lake", lambda phase, number: number % 2 == 0)
    assert differences(whole[0], tmp_path / "lake") == []
    assert ledger == whole[1]


def test_a_second_run_over_the_same_archive_changes_nothing(fleet, whole, tmp_path):
    first = phased(fleet, tmp_path / "lake")
    assert phased(fleet, tmp_path / "lake") == first
    assert differences(whole[0], tmp_path / "lake") == []


def test_items_are_read_one_by_one_and_results_come_in_order(tmp_path):
    work_items = WorkItems(folder(str(tmp_path), S3Settings()))
    items = [{"name": "x" * number} for number in range(40)]
    assert work_items.put(iter(items), shared=("all",)) == 40
    assert [work_items.item(number) for number in (39, 0, 7)] == [items[39], items[0], items[7]]
    assert work_items.shared() == ("all",)
    assert not work_items.is_done(3)
    for number in reversed(range(40)):
        work_items.keep(number, number)
    assert work_items.is_done(3)
    assert list(work_items.results(40)) == list(range(40))
