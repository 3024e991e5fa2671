"""A broken world makes no dead letters: jobs go on with what they know, wait, or stop."""

from __future__ import annotations

import io

import fastavro
import pytest

from connectors.schema_registry.client import RegistryClient
from connectors.schema_registry.register import register
from schemas import load
from tests.cluster import oracle
from tests.cluster.fleet import odograph, until
from tests.cluster.messages import START_MS, bindings, log, send

pytestmark = pytest.mark.cluster

TERMINALS = ["T1", "T2"]


@pytest.fixture
def bound(fleet, tmp_path):
    """A fleet whose bindings lie in the operations database; its jobs read them there."""
    file = tmp_path / "bindings.csv"
    file.write_text(bindings(TERMINALS))
    odograph("database", "apply", "--config", fleet.settings)
    odograph("database", "load", "--config", fleet.settings, "--bindings", file)
    fleet.bindings = file
    return fleet


def converting(fleet) -> None:
    odograph("submit", "convert", "--config", fleet.settings, "--start-at", "earliest")


def uploads(names, first, count):
    for n in range(first, first + count):
        when = START_MS + 60_000 * n
        for name in names:
            yield name.encode(), log(name, n, when, when), when


def vehicle_rows(fleet) -> list[dict]:
    return [row for _, row in oracle.decoded(fleet.config.kafka, "vehicle-log", "vehicle_log")]


def no_dead_letters(fleet) -> bool:
    return not list(oracle.decoded(fleet.config.kafka, "dead-letters", "dead_letter"))


def test_without_a_first_snapshot_a_job_is_not_started(fleet):
    postgres = fleet.servers["postgres"]
    postgres.stop()
    try:
        told = odograph("submit", "convert", "--config", fleet.settings, fails=True)
    finally:
        postgres.start()
        postgres.ready()
    assert "fleet" in told
    assert not [job for job in fleet.cluster.jobs() if job.alive]


def test_a_database_outage_keeps_the_last_bindings_and_new_ones_come_after_it(bound, tmp_path):
    postgres = bound.servers["postgres"]
    converting(bound)
    send(bound.config.kafka, "message-log", uploads(TERMINALS, 0, 5))
    until(lambda: len(vehicle_rows(bound)) == 10, "first uploads")
    postgres.kill()
    send(bound.config.kafka, "message-log", uploads([*TERMINALS, "T3"], 5, 5))
    until(lambda: len(vehicle_rows(bound)) == 25, "uploads during the outage")
    postgres.start()
    postgres.ready()
    more = tmp_path / "more.csv"
    more.write_text(bindings([*TERMINALS, "T3"]))
    odograph("database", "load", "--config", bound.settings, "--bindings", more)

    def bound_now() -> bool:
        first = len(vehicle_rows(bound))
        send(bound.config.kafka, "message-log", uploads(["T3"], first, 1))
        rows = until(lambda: vehicle_rows(bound)[first:], "an upload of T3")
        return rows[-1]["binding_status"] == "BOUND"

    until(bound_now, "the new binding is seen")
    rows = vehicle_rows(bound)
    known = [row["binding_status"] for row in rows if row["device_no"] != "T3"]
    assert set(known) == {"BOUND"}
    assert no_dead_letters(bound)


def test_while_the_registry_is_away_known_schemas_go_on_and_a_new_one_waits(bound):
    registry = bound.servers["registry"]
    first, second = load("message_log").avro, dict(load("message_log").avro)
    second["fields"] = [field for field in second["fields"] if field["name"] != "dtc_codes"]
    ids = [
        register(RegistryClient(bound.config.registry), subject, schema).id
        for subject, schema in (("message-log-value", first), ("outage-probe-value", second))
    ]
    converting(bound)
    send(bound.config.kafka, "message-log", [avro(first, ids[0], 0)])
    until(lambda: len(vehicle_rows(bound)) == 1, "the first upload")
    log_file = bound.servers["flink"].task_manager(1).log
    told = log_file.stat().st_size
    registry.stop()
    send(bound.config.kafka, "message-log", [avro(first, ids[0], 1)])
    until(lambda: len(vehicle_rows(bound)) == 2, "an upload with a known schema")
    send(bound.config.kafka, "message-log", [avro(second, ids[1], 2), avro(first, ids[0], 3)])

    def says_so() -> bool:
        return b"the schema registry is asked again" in log_file.read_bytes()[told:]

    until(says_so, "the job waits for the registry")
    assert len(vehicle_rows(bound)) == 2
    registry.start()
    registry.ready()
    until(lambda: len(vehicle_rows(bound)) == 4, "what waited goes on")
    assert no_dead_letters(bound)


def avro(schema, schema_id, seq):
    when = START_MS + 60_000 * seq
    record = {
        field["name"]: [] if field["name"] in ("tire_pressure_kpa", "dtc_codes") else None
        for field in schema["fields"]
    } | {
        "message_id": f"{seq:032x}",
        "device_no": "T1",
        "device_gen": "STS",
        "received_time": when,
        "device_time": when - 500,
        "extras": {},
    }
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), record)
    return b"T1", b"\0" + schema_id.to_bytes(4, "big") + body.getvalue(), when
