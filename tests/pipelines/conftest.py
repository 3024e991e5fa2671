from datetime import datetime

import pytest

from runners.simulation.simulator import Scenario, simulate
from tests.support.lakes import backfill


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    """An hour and a half over midnight of a fleet that misbehaves in every known way."""
    out = tmp_path_factory.mktemp("fleet")
    start = datetime.fromisoformat("2024-01-15T22:45+09:00")
    simulate(
        out, Scenario(46, 1.5, seed=11, misbehave=frozenset({"all"}), start=start, partitions=2)
    )
    return out


@pytest.fixture(scope="session")
def whole(fleet, tmp_path_factory):
    """The lake of one backfill over all of it, and its ledger."""
    lake = tmp_path_factory.mktemp("whole") / "lake"
    return lake, backfill(fleet, lake)


@pytest.fixture(scope="session")
def before_midnight(fleet, tmp_path_factory):
    """The lake of a backfill of what arrived before midnight."""
    lake = tmp_path_factory.mktemp("early") / "lake"
    backfill(fleet, lake, end=datetime.fromisoformat("2024-01-16T00:00+09:00"))
    return lake
