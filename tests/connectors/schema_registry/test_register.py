"""Registering: checked against everything that is there, all or nothing, again and again."""

import copy
import json
import secrets

import pytest
import requests

from connectors.kafka.topics import SCHEMA_OF
from connectors.schema_registry.client import RegistryClient
from connectors.schema_registry.lookup import RegistrySchemas, ids
from connectors.schema_registry.register import NotRegistered, register, register_all
from connectors.schema_registry.settings import RegistrySettings
from schemas import load

pytestmark = pytest.mark.servers


@pytest.fixture
def settings(registry):
    return RegistrySettings(url=registry.address, give_up_s=30)


@pytest.fixture
def topic():
    return f"test-{secrets.token_hex(4)}"


def field(schema, name):
    return next(f for f in schema["fields"] if f["name"] == name)


def versions(settings, topic):
    answer = requests.get(f"{settings.url}/subjects/{topic}-value/versions", timeout=30)
    return answer.json() if answer.status_code == 200 else []


def test_every_topic_with_a_schema_is_registered_and_again_changes_nothing(settings):
    first = register_all(settings)
    assert [one.subject for one in first] == [f"{topic}-value" for topic in SCHEMA_OF]
    assert register_all(settings) == first
    assert ids(settings) == {one.subject.removesuffix("-value"): one.id for one in first}
    for one, name in zip(first, SCHEMA_OF.values(), strict=True):
        assert RegistrySchemas(settings).lookup(one.id) == load(name).avro
        level = requests.get(f"{settings.url}/config/{one.subject}", timeout=30).json()
        assert level["compatibilityLevel"] == "BACKWARD_TRANSITIVE"


def no_alias(old):
    field(old, "speed_kmh")["name"] = "velocity_kmh"


def other_unit(old):
    field(old, "odometer_m")["doc"] = "km, vehicle lifetime"


def bytes_field(old):
    field(old, "firmware_version")["type"] = ["null", "bytes"]


def lost_symbol(old):
    field(old, "device_gen")["type"]["symbols"].append("XTS")


@pytest.mark.parametrize(
    ("change", "place", "rule"),
    [
        (no_alias, "velocity_kmh", "rename-without-alias"),
        (other_unit, "odometer_m", "unit-changed"),
        (bytes_field, "firmware_version", "promotion-not-native"),
        (lost_symbol, "device_gen", "enum-symbol-removed"),
    ],
)
def test_what_must_not_be_replaced_is_named_and_nothing_registered(
    settings, topic, change, place, rule
):
    old = copy.deepcopy(load("message_log").avro)
    change(old)
    register(RegistryClient(settings), f"{topic}-value", old)
    untouched = f"{topic}-first"
    with pytest.raises(NotRegistered) as raised:
        register_all(settings, {untouched: "message_gps", topic: "message_log"})
    (problem,) = raised.value.problems
    assert (problem.file, problem.rule) == (f"{topic}-value version 1", rule)
    assert place in problem.field
    assert versions(settings, topic) == [1] and versions(settings, untouched) == []


def test_every_version_counts_not_only_the_newest(settings, topic):
    url = f"{settings.url}/config/{topic}-value"
    requests.put(url, json={"compatibility": "NONE"}, timeout=30)
    old = copy.deepcopy(load("message_log").avro)
    other_unit(old)
    old["fields"].remove(field(old, "cell_rssi_dbm"))
    for schema in (old, load("message_log").avro):
        body = {"schema": json.dumps(schema)}
        requests.post(f"{settings.url}/subjects/{topic}-value/versions", json=body, timeout=30)
    assert versions(settings, topic) == [1, 2]
    with pytest.raises(NotRegistered, match=r"version 1: odometer_m: unit-changed"):
        register_all(settings, {topic: "message_log"})


@pytest.mark.parametrize(
    "body",
    [
        {"schema": '{"type":"object","properties":{}}', "schemaType": "JSON"},
        {"schema": '{"type":"enum","name":"E","symbols":["A"]}'},
    ],
)
def test_a_subject_of_something_else_is_refused(settings, topic, body):
    url = f"{settings.url}/subjects/{topic}-value/versions"
    assert requests.post(url, json=body, timeout=30).status_code == 200
    with pytest.raises(NotRegistered, match="use a new topic"):
        register_all(settings, {topic: "message_log"})


def test_schemas_that_break_the_rules_of_schemas_are_not_registered(settings, topic, tmp_path):
    (tmp_path / "message_log.avsc").write_text('{"type":"record","name":"MessageLog","fields":[]}')
    with pytest.raises(NotRegistered, match="namespace"):
        register_all(settings, {topic: "message_log"}, tmp_path)
    assert versions(settings, topic) == []


def test_a_newer_version_that_may_replace_is_registered_beside(settings, topic):
    old = copy.deepcopy(load("message_log").avro)
    old["fields"].remove(field(old, "cell_rssi_dbm"))
    first = register(RegistryClient(settings), f"{topic}-value", old).id
    (one,) = register_all(settings, {topic: "message_log"})
    assert (one.version, one.id != first) == (2, True)


def test_the_registrys_own_refusal_is_told(settings, topic):
    old = copy.deepcopy(load("message_log").avro)
    register(RegistryClient(settings), f"{topic}-value", old)
    field(old, "odometer_m")["type"] = ["null", "string"]
    with pytest.raises(NotRegistered, match=rf"{topic}-value: registry: .*ncompatible"):
        register(RegistryClient(settings), f"{topic}-value", old)
