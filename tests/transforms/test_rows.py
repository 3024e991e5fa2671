"""The rows a stream leaves in a store are those of a backfill."""

from __future__ import annotations

import random

import pytest

from connectors.bindings import load_bindings
from connectors.files import S3Settings
from connectors.tables import TELEMETRY
from runners.simulation import simulate
from runners.simulation.misbehaviours import MISBEHAVIOURS
from tests.transforms.row_model import RowStream, Store
from tests.transforms.test_dossier import raw_batch, records
from transforms.decode import Decoder
from transforms.facts import facts
from transforms.rules import Rules


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    out = tmp_path_factory.mktemp("fleet")
    simulate(out, 3, 2.0, 3, frozenset(MISBEHAVIOURS), None, 2)
    found = records(out / "archive")
    terminals = load_bindings(str(out / "device_binding.csv"), S3Settings())
    core = (Decoder(terminals=terminals.known), terminals.bindings, Rules())
    whole = [raw_batch(t, p, lines, 0, True) for (t, p), lines in sorted(found.items())]
    return found, core, batch_rows(whole, core)


def batch_rows(raws, core):
    """Telemetry rows of a batch, by table, day and key."""
    store = Store()
    for name, parts in facts(raws, *core).telemetry.items():
        for part in parts:
            for row in part.to_pylist():
                key = (row["message_id"], row["sample_idx"])
                place = (row["event_time"].date(), key)
                store.parts[f"telemetry_{name}"][place] = row | {"revision": 0, "gone": False}
    return {table.name: store.rows(table) for table in TELEMETRY.values()}


def parts_of(found, seed):
    """All records in batches of any size, those of one partition in order."""
    chance = random.Random(seed)
    left = {place: (lines, 0) for place, lines in found.items()}
    while left:
        place = chance.choice(sorted(left))
        lines, at = left.pop(place)
        size = chance.choice((1, 30, 400))
        yield raw_batch(*place, lines[at : at + size], at, False)
        if at + size < len(lines):
            left[place] = (lines, at + size)


def differences(store, expected):
    told = []
    for table in TELEMETRY.values():
        here, there = store.rows(table), expected[table.name]
        for place in sorted(here.keys() | there.keys()):
            one, other = here.get(place), there.get(place)
            if one != other:
                what = (
                    {n: (one[n], other[n]) for n in one if one[n] != other[n]}
                    if one and other
                    else (one and "live", other and "batch")
                )
                told.append(f"{table.name} {place}: {what}")
    return told


def test_rows_of_a_stream_in_any_batches_end_at_those_of_a_backfill(day):
    found, core, expected = day
    store = Store()
    stream = RowStream(*core, store)
    for raw in parts_of(found, 5):
        stream.take(raw)
    assert differences(store, expected) == []
