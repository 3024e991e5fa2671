"""The live lake ends as the lake of a backfill of the same topics, table by table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from schemas import MESSAGE_TYPES
from tests.cluster.fleet import Fleet, odograph, until

pytestmark = pytest.mark.cluster

TELEMETRY = tuple(f"telemetry_{name}" for name in MESSAGE_TYPES)
PARTITIONS, FLUSH_SIZE = 2, 500


@pytest.fixture
def lake(tmp_path):
    return tmp_path / "lake"


@pytest.fixture
def fleet(servers, tmp_path, lake):
    """Fresh topics and a lake to write to. The simulated days lie long ago: uploads without a
    receive time take that of the broker."""
    settings = {"flush_size": FLUSH_SIZE, "rotate_schedule_interval_ms": 2000}
    changes = {
        "topics": {"partitions": PARTITIONS},
        "stream": {"lateness_hours": 1_000_000, "revise_after_s": 2},
        "sinks": {"lake": {"folder": lake.as_uri(), **settings}},
    }
    with Fleet.fresh(servers, tmp_path, **changes) as one:
        yield one


def differences(lake: Path, other: Path, *left_out: str) -> list[str]:
    """Rows that only one of two lakes has, by table, in words; some columns of those of uploads
    may be left out."""
    told = [(table, left_out) for table in ("dead_letters", *TELEMETRY)]
    return [
        f"{name}: {row}"
        for table, names in [*told, ("vehicle_minutes", ("revision",))]
        for name, row in _rows(lake, other, table, names)
    ]


def _rows(lake: Path, other: Path, table: str, names: Sequence[str]) -> list[tuple[str, tuple]]:
    places = [f"{one}/{table}/*/*/*.parquet" for one in (lake, other)]
    if not next((lake / table).glob("*/*/*.parquet"), None):
        return [(table, ("nothing there",))]
    described = duckdb.execute("describe select * from read_parquet(?)", places[:1]).fetchall()
    columns = ", ".join(f'"{column[0]}"' for column in described if column[0] not in names)
    one = f"select {columns} from read_parquet(?)"
    found = []
    for name, pair in ((f"live {table}", places), (f"backfilled {table}", places[::-1])):
        found += [(name, r) for r in duckdb.execute(f"{one} except all {one}", pair).fetchmany(2)]
    return found


@pytest.mark.long
def test_a_day_with_every_misbehaviour_equals_the_backfill(fleet, lake, tmp_path):
    fleet.simulate(tmp_path / "day", "--vehicles", 12, "--hours", 2, "--misbehave", "all")
    fleet.submit("aggregate")
    odograph(
        "submit",
        "sink",
        "lake",
        "--config",
        fleet.settings,
        "--bindings",
        fleet.bindings,
        "--start-at",
        "earliest",
    )
    expected = tmp_path / "backfilled"
    backfill = ("backfill", "--kafka", fleet.config.kafka.bootstrap, "--lake", expected)
    odograph(*backfill, "--bindings", fleet.bindings, "--config", fleet.settings)
    told: list[str] = []

    def equal() -> bool:
        told[:] = differences(lake, expected)
        return not told

    try:
        until(equal, "the live lake equals the backfill's", 240)
    except AssertionError as error:
        raise AssertionError("\n".join([str(error), *told])) from None
