"""How Kafka clients are set up, which offsets topics hold, and what failures say."""

import json
from datetime import UTC, datetime

import pytest

from connectors.errors import BadSettings, DependencyFailed, MissingSecret
from connectors.kafka.client import (
    begin_offsets,
    client_properties,
    end_offsets,
    offsets_at,
    partitions,
)
from connectors.kafka.settings import KafkaSettings
from tests.support.kafka import new_topic, send, settings_of, transaction

pytestmark = pytest.mark.servers


def test_properties_go_to_clients_as_they_are_and_secrets_resolved(monkeypatch, tmp_path):
    monkeypatch.setenv("BROKER_PASSWORD", "s3cret")
    (tmp_path / "key").write_text("opens\n")
    settings = KafkaSettings(
        bootstrap="a:1,b:2",
        properties={"sasl.username": "odograph"},
        secrets={
            "sasl.password": "env:BROKER_PASSWORD",
            "ssl.key.password": f"file:{tmp_path}/key",
        },
    )
    assert client_properties(settings) == {
        "bootstrap.servers": "a:1,b:2",
        "sasl.username": "odograph",
        "sasl.password": "s3cret",
        "ssl.key.password": "opens",
    }
    assert "s3cret" not in json.dumps(settings.model_dump())


def test_a_secret_that_leads_nowhere_is_named():
    settings = KafkaSettings(bootstrap="a:1", secrets={"sasl.password": "env:NOT_SET_ANYWHERE"})
    with pytest.raises(MissingSecret, match="env:NOT_SET_ANYWHERE"):
        client_properties(settings)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"properties": {"sasl.password": "open"}}, "sasl.password is a secret"),
        ({"properties": {"client.id": "a"}, "secrets": {"client.id": "env:A"}}, "client.id"),
        ({"properties": {"bootstrap.servers": "a:1"}}, "bootstrap"),
        ({"secrets": {"sasl.password": "open"}}, "not a reference"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(words, named):
    with pytest.raises(ValueError, match=named):
        KafkaSettings(bootstrap="a:1", **words)


def test_no_bootstrap_is_said():
    with pytest.raises(BadSettings, match=r"kafka\.bootstrap is not set"):
        client_properties(KafkaSettings())


def test_a_property_no_client_knows_is_named():
    settings = KafkaSettings(bootstrap="127.0.0.1:1", properties={"nonsense": "1"})
    with pytest.raises(BadSettings, match="nonsense"):
        partitions(settings, ["a"])


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:9092"])
def test_unreachable_brokers_are_a_failed_dependency_with_address_and_reason(
    address, capfd, monkeypatch
):
    monkeypatch.setattr("connectors.kafka.client.REQUEST_S", 2.0)
    with pytest.raises(DependencyFailed, match=r"refused|resolve") as raised:
        end_offsets(KafkaSettings(bootstrap=address), ["message-log"])
    assert address in str(raised.value) and "kafka.bootstrap" in str(raised.value)
    assert capfd.readouterr().err == ""


def test_an_absent_topic_is_named(kafka):
    with pytest.raises(DependencyFailed, match=r"no topic not-there.*topics apply"):
        partitions(settings_of(kafka), ["not-there"])


def test_begin_and_end_of_every_partition(kafka):
    topic = new_topic(kafka, partitions=3)
    send(kafka, topic, [(b"k", b"v")] * 7, partition=1)
    settings = settings_of(kafka)
    assert partitions(settings, [topic]) == [(topic, 0), (topic, 1), (topic, 2)]
    assert begin_offsets(settings, [topic]) == {(topic, 0): 0, (topic, 1): 0, (topic, 2): 0}
    assert end_offsets(settings, [topic]) == {(topic, 0): 0, (topic, 1): 7, (topic, 2): 0}


def test_the_committed_end_lies_before_an_open_transaction(kafka):
    topic = new_topic(kafka)
    send(kafka, topic, [(None, b"v")])
    producer = transaction(kafka, topic, [b"open"], end="stay")
    settings = settings_of(kafka)
    assert end_offsets(settings, [topic]) == {(topic, 0): 1}
    assert end_offsets(settings, [topic], "read_uncommitted") == {(topic, 0): 2}
    producer.abort_transaction(30)


def test_offsets_at_a_time_are_the_first_not_before_it_else_the_end(kafka):
    topic = new_topic(kafka, partitions=2)
    base = 1_700_000_000_000
    stamped = [{"value": b"v", "timestamp": base + 1000 * n} for n in range(5)]
    send(kafka, topic, stamped)
    settings = settings_of(kafka)

    def at(ms):
        return offsets_at(settings, [topic], datetime.fromtimestamp(ms / 1000, UTC))[topic, 0]

    assert [at(base - 1), at(base), at(base + 1), at(base + 4000), at(base + 4001)] == [
        0,
        0,
        1,
        4,
        5,
    ]
    assert offsets_at(settings, [topic], datetime(2000, 1, 1, tzinfo=UTC))[topic, 1] == 0


def test_a_time_without_zone_is_refused(kafka):
    with pytest.raises(BadSettings, match="zone"):
        offsets_at(settings_of(kafka), ["a"], datetime(2024, 1, 15))
