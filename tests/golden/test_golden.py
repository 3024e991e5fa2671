"""Whole archives through the real job: every table, dead letter and count is as written down."""

import json

import pytest

from tests.golden.golden import CASES, NAMES, run_case

pytestmark = pytest.mark.days


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_becomes_the_expected_facts_dead_letters_and_ledger(name, tmp_path):
    found = run_case(name, tmp_path)
    expected = {path.name: path.read_text() for path in (CASES / name / "expected").iterdir()}
    assert sorted(found) == sorted(expected)
    for table, text in found.items():
        assert json.loads(text) == json.loads(expected[table]), table


@pytest.mark.parametrize("name", NAMES)
def test_an_expected_ledger_balances(name):
    ledger = json.loads((CASES / name / "expected" / "ledger.json").read_text())
    for line in (ledger["totals"], *ledger["by"]):
        counted = ("good", "dead", "duplicate", "late", "filtered")
        assert line["in"] == sum(line[part] for part in counted)
