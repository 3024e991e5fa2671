"""Each test belongs to one lot of `make test`, so all of them run, and none twice."""

import re

import pytest

from tests.repository.files import ROOT
from tests.support.lots import COLLECTED, LOTS, lots_of


@pytest.fixture
def collected(request):
    """All tests of this run, also those that `-m` leaves out."""
    return request.config.stash[COLLECTED]


def test_every_test_belongs_to_one_lot(collected):
    assert [item.nodeid for item in collected if len(lots_of(item)) != 1] == []


def test_no_test_of_the_core_starts_a_server(collected):
    core = (item for item in collected if lots_of(item) == ["core"])
    assert [item.nodeid for item in core if "servers" in item.fixturenames] == []


def test_make_test_runs_every_lot():
    found = re.search(r"^LOTS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {f"test-{name}" for name in LOTS} <= set(found[1].split())
