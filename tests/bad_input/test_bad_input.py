"""A thousand hostile messages through the real job: each a fact or a dead letter, none lost."""

import json
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.bad_input.archive import write_archive
from tests.bad_input.case import DEAD, FACT
from tests.bad_input.corpus import hostile_messages
from tests.repository.files import ROOT

pytestmark = pytest.mark.days

TIME_LIMIT_S = 300
MEMORY_LIMIT_MIB = 1024


@dataclass
class Result:
    """What the job made of the archive, by place (object, line)."""

    written: object
    lake: Path
    facts: dict
    dead: dict
    ledger: dict
    peak_mib: int


def rows_of(lake, pattern, columns):
    for path in sorted(lake.glob(f"{pattern}/**/*.parquet")):
        with pq.ParquetFile(path) as file:
            table = file.read(columns=[c for c in columns if c in file.schema_arrow.names])
        yield from table.to_pylist()


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    lake = folder / "lake"
    written = write_archive(folder, hostile_messages())
    done = subprocess.run(
        [sys.executable, "-m", "tests.bad_input.job", folder, lake],
        cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr[-4000:]}"
    said = json.loads(done.stdout.splitlines()[-1])
    facts, dead = defaultdict(list), defaultdict(list)
    columns = ["object", "line", "device_no", "quality_flags", "speed_kmh"]
    for row in rows_of(lake, "telemetry_*", columns):
        facts[row["object"], row["line"]].append(row)
    columns = [
        "source_object", "source_line", "raw_value", "raw_size", "error_type", "error_message",
        "dead_letter_id", "source_key", "raw_headers",
    ]  # fmt: skip
    for row in rows_of(lake, "dead_letters", columns):
        dead[row["source_object"], row["source_line"]].append(row)
    return Result(written, lake, facts, dead, said["ledger"], said["peak_mib"])


def test_every_message_is_a_fact_or_a_dead_letter(result):
    places = {**result.written.hostile, **result.written.neighbours}
    assert set(result.facts) & set(result.dead) == set()
    lost = [places[place] for place in places.keys() - result.facts.keys() - result.dead.keys()]
    assert lost == []
    assert len(result.facts) + len(result.dead) == len(places)
    assert len(result.written.hostile) == 1000


def test_every_expectation_is_met(result):
    wrong = []
    for place, case in result.written.hostile.items():
        found = [one["error_type"] for one in result.dead.get(place, ())]
        if case.expect == DEAD and not found:
            wrong.append((case.name, "became a fact", sorted(case.errors)))
        elif case.expect == FACT and found:
            wrong.append((case.name, found, result.dead[place][0]["error_message"][:80]))
        elif found and case.errors and not case.errors.issuperset(found):
            wrong.append((case.name, found, sorted(case.errors)))
    assert wrong == []


def test_facts_carry_the_flags_of_what_was_mended(result):
    wrong = []
    for place, case in result.written.hostile.items():
        flags = {flag for row in result.facts.get(place, ()) for flag in row["quality_flags"]}
        if place in result.facts and not case.flags <= flags:
            wrong.append((case.name, sorted(flags), sorted(case.flags)))
    assert wrong == []


def test_facts_belong_to_the_terminal_that_sent_them(result):
    wrong = [
        (case.name, row["device_no"])
        for place, case in result.written.hostile.items()
        for row in result.facts.get(place, ())
        if case.device_no and row["device_no"] != case.device_no
    ]
    assert wrong == []


def test_good_neighbours_become_facts_with_their_own_values(result):
    wrong = []
    for place, neighbour in result.written.neighbours.items():
        rows = [(r["device_no"], r["speed_kmh"]) for r in result.facts.get(place, ())]
        if rows != [(neighbour.case.device_no, neighbour.speed_kmh)]:
            wrong.append((place, neighbour.case.name, rows))
    assert wrong == []


@pytest.mark.parametrize("tables", ["telemetry_*", "vehicle_minutes"])
def test_no_number_is_nan_or_infinite(result, tables):
    found = []
    for path in sorted(result.lake.glob(f"{tables}/**/*.parquet")):
        with pq.ParquetFile(path) as file:
            table = file.read()
        for name in table.schema.names:
            if pa.types.is_floating(table[name].type):
                odd = table.filter(pc.invert(pc.is_finite(table[name])).fill_null(False))
                found += [(tables, name, value) for value in odd[name].to_pylist()]
    assert found == []


def test_dead_letters_hold_the_exact_bytes(result):
    wrong = []
    for place, letters in result.dead.items():
        case = result.written.hostile.get(place)
        values = [(letter["raw_value"], letter["raw_size"]) for letter in letters]
        if case is not None and values != [(case.raw, len(case.raw))]:
            wrong.append((case.name, case.raw[-20:], [(v[-20:], size) for v, size in values]))
    assert wrong == []


def test_dead_letters_of_records_keep_key_and_headers(result):
    kept = {
        (letter["source_key"], tuple(letter["raw_headers"]))
        for place, letters in result.dead.items()
        if place[0].endswith(".parquet")
        for letter in letters
    }
    assert kept == {(b"key", (("trace", b"\xff\0"),))}


def test_dead_letters_have_ids_of_their_own_and_short_reasons(result):
    letters = [letter for letters in result.dead.values() for letter in letters]
    assert max(Counter(letter["dead_letter_id"] for letter in letters).values()) == 1
    assert all(0 < len(letter["error_message"].encode()) <= 1024 for letter in letters)


def test_nothing_is_a_bug(result):
    bugs = [
        (result.written.hostile.get(place), letter["error_message"])
        for place, letters in result.dead.items()
        for letter in letters
        if letter["error_type"] == "BUG"
    ]
    assert bugs == []


def test_the_ledger_counts_what_the_lake_holds(result):
    totals = result.ledger["totals"]
    assert totals["in"] == len(result.written.hostile) + len(result.written.neighbours)
    assert totals["good"] == len(result.facts)
    assert totals["dead"] == len(result.dead)
    assert totals["samples"] == sum(map(len, result.facts.values()))
    assert result.ledger["objects"]["broken"] == []


def test_memory_stays_bounded(result):
    assert result.peak_mib < MEMORY_LIMIT_MIB
