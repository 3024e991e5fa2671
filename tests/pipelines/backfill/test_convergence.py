"""However often, in whatever parts and order an archive is read: the same lake, byte for byte."""

import gzip
import random
import shutil
from datetime import datetime

import pytest

from pipelines.backfill import steps
from pipelines.backfill.spec import BackfillSpec
from tests.support.lakes import backfill, command, differences, hour_of, rows, run, subset

pytestmark = pytest.mark.days

MIDNIGHT = datetime.fromisoformat("2024-01-16T00:00+09:00")
ELEVEN = datetime.fromisoformat("2024-01-15T23:00+09:00")


def test_twice_is_once(fleet, whole, tmp_path):
    lake, ledger = whole
    shutil.copytree(lake, tmp_path / "lake")
    assert backfill(fleet, tmp_path / "lake") == ledger
    assert differences(lake, tmp_path / "lake") == []


def test_the_order_of_objects_does_not_matter(fleet, whole, tmp_path, monkeypatch):
    from runners.backfill import request as runner

    def shuffled(*args):
        listing = list_objects(*args)
        random.Random(1).shuffle(listing.objects)
        return listing

    list_objects = runner.list_objects
    monkeypatch.setattr(runner, "list_objects", shuffled)
    assert backfill(fleet, tmp_path / "lake") == whole[1]
    assert differences(whole[0], tmp_path / "lake") == []


@pytest.mark.parametrize(
    "order",
    [
        pytest.param((0, 1), id="early first", marks=pytest.mark.long),
        pytest.param((1, 0), id="late first"),
    ],
)
def test_overlapping_times_are_as_one(fleet, whole, tmp_path, order):
    parts = ({"end": MIDNIGHT}, {"start": ELEVEN})
    for part in order:
        backfill(fleet, tmp_path / "lake", **parts[part])
    assert differences(whole[0], tmp_path / "lake") == []


@pytest.mark.parametrize(
    "order",
    [
        pytest.param((0, 1), id="first half first", marks=pytest.mark.long),
        pytest.param((1, 0), id="second half first"),
    ],
)
def test_archives_that_share_objects_are_as_one(fleet, whole, tmp_path, order):
    halves = [
        subset(fleet, tmp_path / "early", lambda name: hour_of(name) < "2024011600"),
        subset(fleet, tmp_path / "late", lambda name: hour_of(name) >= "2024011523"),
    ]
    for half in order:
        backfill(fleet, tmp_path / "lake", halves[half])
    assert differences(whole[0], tmp_path / "lake") == []


def test_objects_dealt_out_to_five_runs_are_as_one(fleet, whole, tmp_path):
    """An upload's neighbours come in other runs than it does."""
    rng = random.Random(3)
    dealt = [set() for _ in range(5)]
    for name in names(fleet):
        rng.choice(dealt).add(name)
    for number, part in enumerate(dealt):
        archive = subset(fleet, tmp_path / f"part{number}", part.__contains__)
        backfill(fleet, tmp_path / "lake", archive)
    assert differences(whole[0], tmp_path / "lake") == []


def names(fleet):
    topics = fleet / "archive" / "topics"
    return sorted(str(p.relative_to(topics)) for p in topics.rglob("*.*") if p.is_file())


@pytest.mark.parametrize("seed", [pytest.param("0", marks=pytest.mark.long), "4711"])
def test_the_hash_seed_does_not_matter(fleet, whole, tmp_path, seed):
    ended = run(command(fleet, tmp_path / "lake"), PYTHONHASHSEED=seed)
    assert ended.returncode == 0, ended.stderr
    assert differences(whole[0], tmp_path / "lake") == []


def test_two_worker_processes_do_as_one(fleet, whole, tmp_path):
    workers = ["--direct_num_workers", "2", "--direct_running_mode", "multi_processing"]
    ended = run(command(fleet, tmp_path / "lake", *workers))
    assert ended.returncode == 0, ended.stderr
    assert differences(whole[0], tmp_path / "lake") == []


def test_judging_in_many_slices_is_as_in_one(fleet, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "SUMMARY_BYTES_PER_JUDGEMENT", 100_000)
    monkeypatch.setattr(steps, "PARTIALS_PER_MERGE", 500)
    backfill(fleet, tmp_path / "lake")
    assert differences(whole[0], tmp_path / "lake") == []


def test_corrected_bindings_are_as_if_they_had_always_been(fleet, whole, tmp_path):
    head, *lines = (fleet / "device_binding.csv").read_text().splitlines()
    corrected = tmp_path / "bindings.csv"
    moved = [line.replace("VH", "XX") if n % 3 else line for n, line in enumerate(lines[:-4])]
    corrected.write_text("\n".join([head, *moved]) + "\n")
    shutil.copytree(whole[0], tmp_path / "lake")
    backfill(fleet, tmp_path / "lake", bindings=corrected)
    backfill(fleet, tmp_path / "fresh", bindings=corrected)
    assert differences(tmp_path / "fresh", tmp_path / "lake") == []
    assert differences(whole[0], tmp_path / "lake") != []


def test_a_corrected_object_leaves_nothing_of_the_old_one(fleet, tmp_path):
    """Objects come again with fewer lines, with none, with more, and whole after being cut off."""
    archive, corrected = tmp_path / "archive", tmp_path / "corrected"
    shutil.copytree(fleet / "archive", archive)
    shutil.copytree(fleet / "archive", corrected)
    whole_objects = [n for n in names(fleet) if n.endswith(".json.gz") and "+9000" not in n]
    changed = random.Random(5).sample(whole_objects, 16)
    for number, name in enumerate(changed):
        lines = gzip.decompress((archive / "topics" / name).read_bytes()).splitlines(keepends=True)
        if number % 4 == 0:
            (archive / "topics" / name).write_bytes(gzip.compress(b"".join(lines))[:-20])
            continue
        kept = (lines[::2], lines[:1], [])[number % 4 - 1]
        place = archive if number % 2 else corrected
        (place / "topics" / name).write_bytes(gzip.compress(b"".join(kept)))
    backfill(fleet, tmp_path / "lake", archive)
    backfill(fleet, tmp_path / "lake", corrected)
    backfill(fleet, tmp_path / "fresh", corrected)
    assert differences(tmp_path / "fresh", tmp_path / "lake") == []


@pytest.mark.long
def test_types_one_after_the_other_are_as_all(fleet, tmp_path):
    """A topic may carry several types: a run for one leaves what the lake has of another."""
    archive = tmp_path / "archive"
    for number, name in enumerate(n for n in names(fleet) if "+9000" not in n):
        if number % 4 == 0 and name.endswith(".json.gz"):
            target = archive / "topics" / name.replace(name.split("/")[0], "uploads")
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "ab") as joined:
                joined.write((fleet / "archive" / "topics" / name).read_bytes())
    backfill(fleet, tmp_path / "all", archive)
    for kind in ("gps", "log", "boot", "kinematic", "adas"):
        ledger = backfill(fleet, tmp_path / "lake", archive, types=[kind])
    assert ledger["totals"]["filtered"] == 0
    assert differences(tmp_path / "all", tmp_path / "lake") == []


def test_facts_of_an_archive_that_is_gone_stay_and_are_named(fleet, whole, tmp_path):
    """Uploads that came twice after midnight turn out to have come before midnight too."""
    early = subset(fleet, tmp_path / "early", lambda name: hour_of(name) < "2024011600")
    late = subset(fleet, tmp_path / "late", lambda name: hour_of(name) >= "2024011600")
    backfill(fleet, tmp_path / "lake", late)
    before = rows(tmp_path / "lake", "telemetry_log")
    late.rename(tmp_path / "elsewhere")
    ledger = backfill(fleet, tmp_path / "lake", early)
    assert [one for one in ledger["objects"]["broken"] if "is gone" in one["reason"]]
    assert rows(tmp_path / "lake", "telemetry_log") > before
    (tmp_path / "elsewhere").rename(late)
    backfill(fleet, tmp_path / "lake", late)
    assert differences(whole[0], tmp_path / "lake") == []


def test_an_object_settled_again_remembers_its_own_archive(fleet, whole, tmp_path):
    halves = [
        subset(fleet, tmp_path / "even", lambda name: int(hour_of(name)) % 2 == 0),
        subset(fleet, tmp_path / "odd", lambda name: int(hour_of(name)) % 2 == 1),
    ]
    for half in halves:
        backfill(fleet, tmp_path / "lake", half)
    topics = BackfillSpec(str(halves[0]), "", str(tmp_path / "lake"), "").state
    homes = {name: topics.record(name).archive for name in topics.summary_sizes(())}
    assert all((tmp_path / home / "topics" / name).exists() for name, home in homes.items())
    assert differences(whole[0], tmp_path / "lake") == []


def test_a_run_over_parts_known_before_counts_as_the_first_run_over_all(fleet, whole, tmp_path):
    for part in ({"end": MIDNIGHT}, {"start": MIDNIGHT}):
        backfill(fleet, tmp_path / "lake", **part)
    assert backfill(fleet, tmp_path / "lake") == whole[1]
