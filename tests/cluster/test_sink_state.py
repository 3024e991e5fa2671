"""The state of vehicles in the operations database is what a batch over the same uploads says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from connectors.sinks.tables import JUDGED
from connectors.sinks.vehicle_state.columns import KINDS, ROW, TYPES
from tests.cluster.fleet import Fleet, odograph, until
from tests.support.database import Database
from tests.support.vehicle_state import oracle, state

pytestmark = pytest.mark.cluster

STEADY = "M01,M02,M03,M04,M09,M10,M11,M13,M14,M15,M16,M17,M19,M21,M22,M25,M26"
"""All but wrong clocks, whose uploads may push away what was newer until the next one comes."""
REVISION = ROW.get_field_index("revision")
READ = (*TYPES.keys() & {name for kind in KINDS for g in kind.all_groups for name in g.columns},)
PLACE = ("topic", "partition", "offset", "message_id", "sample_idx", "device_no", "vehicle_id")
TIMES = ("event_time", "received_time", "quality_flags")


@pytest.fixture
def database(servers):
    """The operations database, without any state."""
    found = Database(servers["postgres"], "fleet")
    found.run("DROP TABLE IF EXISTS vehicle_state, device_state")
    return found


@pytest.fixture
def fleet(servers, database, tmp_path):
    """Fresh topics; statements so small that several make up a batch."""
    changes = {"stream": {"lateness_hours": 1_000_000}, "sinks": {"state": {"batch_size": 5}}}
    with Fleet.fresh(servers, tmp_path, **changes) as one:
        yield one


def expected(fleet):
    """What plain Python makes of the telemetry of a batch, by table and vehicle or terminal."""
    telemetry = fleet.batch().facts.telemetry
    tables = [
        (name, part.select([n for n in {*READ, *PLACE, *TIMES} if n in part.schema.names]))
        for name, parts in telemetry.items()
        for part in parts
    ]
    judged = {"revision": JUDGED, "gone": False}
    rows = [(name, [one | judged for one in part.to_pylist()]) for name, part in tables]
    return {kind.table: plain(kind, oracle(rows, kind)) for kind in KINDS}


def plain(kind, states):
    """States without revisions, which a batch does not have; short floats as the database prints
    them."""
    for one in states.values():
        for name, value in one.items():
            if isinstance(value, float) and TYPES[name] == pa.float32():
                one[name] = float(str(np.float32(value)))
        for group in kind.all_groups:
            place = one[group.row] and one[group.row].strip("()").split(",")
            one[group.row] = place and place[:REVISION] + place[REVISION + 1 :]
    return states


def differences(database, wanted):
    """What the database says otherwise, in words."""
    told = []
    for kind in KINDS:
        found = plain(kind, state(database, kind))
        for key in sorted(found.keys() | wanted[kind.table].keys()):
            one, other = found.get(key), wanted[kind.table].get(key)
            if one is None or other is None:
                told.append(f"{kind.table} {key}: {'missing' if one is None else 'too many'}")
            elif one != other:
                pairs = {name: (one[name], other[name]) for name in one if one[name] != other[name]}
                told.append(f"{kind.table} {key}: {pairs}")
    return told


@pytest.mark.long
def test_the_state_of_a_simulated_hour_is_that_of_its_newest_rows(fleet, database, tmp_path):
    """Among them copies, uploads out of order and hours late, terminals that swap vehicles."""
    fleet.simulate(tmp_path / "hour", "--vehicles", 8, "--hours", 1, "--misbehave", STEADY)
    wanted = expected(fleet)
    start = ("--bindings", fleet.bindings, "--start-at", "earliest")
    odograph("submit", "sink", "state", "--config", fleet.settings, *start)
    told = []

    def equal():
        told[:] = differences(database, wanted)
        return not told

    try:
        until(equal, "the state is that of the newest rows", patience_s=180)
    except AssertionError as error:
        raise AssertionError("\n".join([str(error), *told[:5]])) from None
