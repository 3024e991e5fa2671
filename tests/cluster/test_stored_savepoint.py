"""A savepoint of an earlier version restores: what it remembered still corrects its minutes.

Its state is older than any outage that a job is set for by default, so the job here remembers for
a century: nothing in this test depends on the day it runs.

Make it anew, when state has changed on purpose, with ODOGRAPH_STORE_SAVEPOINT=1.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from connectors.schema_registry.lookup import ids
from runners.simulation.kafka import feed
from tests.cluster import oracle
from tests.cluster.fleet import until
from tests.cluster.load import EVERY_MS, logs, terminals
from tests.cluster.messages import START_MS, bindings

pytestmark = pytest.mark.cluster

STORED = Path(__file__).parent / "savepoints" / "aggregate"
TERMINALS = terminals(20)
BEFORE, AFTER = 27, 30
"""Rounds, six a minute: the savepoint was taken in the middle of a minute."""


def send(fleet, first, rounds):
    schema_id = ids(fleet.config.registry, ["message-log"])["message-log"]
    feed(fleet.config.kafka, logs(TERMINALS, schema_id, first, rounds))


def store(savepoint: str) -> None:
    place = urlsplit(savepoint).path
    shutil.rmtree(STORED, ignore_errors=True)
    shutil.copytree(place, STORED)
    # state that lies in the metadata itself is named after the folder it was made in
    metadata = STORED / "_metadata"
    anywhere = b"/" + b"-" * (len(place) - 1)
    metadata.write_bytes(metadata.read_bytes().replace(place.encode(), anywhere))


@pytest.mark.settings(stream={"outage_hours": 876_000})
def test_a_stored_savepoint_restores_and_its_minutes_go_on(fleet):
    fleet.bindings.write_text(bindings(TERMINALS))
    send(fleet, 0, BEFORE)
    if os.environ.get("ODOGRAPH_STORE_SAVEPOINT"):
        fleet.submit("aggregate")
        fleet.reaches_the_minutes_of(fleet.batch())
        store(fleet.stop("aggregate"))
        return
    fleet.submit("aggregate", "--from-savepoint", STORED.as_uri())
    send(fleet, BEFORE, AFTER - BEFORE)
    expected = fleet.batch().minutes()
    torn = START_MS + (BEFORE * EVERY_MS) // 60_000 * 60_000
    wanted = {key: row for key, row in expected.items() if key[1] >= torn}
    assert wanted

    def live():
        return oracle.live_minutes(fleet.config.kafka)

    until(lambda: live() == wanted, "the minute torn by the savepoint is whole")
    revisions = {
        row["revision"]
        for _, row in oracle.decoded(fleet.config.kafka, "vehicle-minutes", "vehicle_minute")
    }
    assert 0 not in revisions
