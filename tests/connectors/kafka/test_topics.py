"""Which topics are declared, and making a cluster so without ever losing anything."""

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from connectors.errors import BadSettings, DependencyFailed
from connectors.kafka.bounded_read import read_range
from connectors.kafka.client import end_offsets
from connectors.kafka.settings import KafkaSettings, TopicSettings
from connectors.kafka.topic_changes import ALTER, BY_HAND, CREATE, apply, plan
from connectors.kafka.topics import (
    DEAD_LETTERS,
    DEVICE_TOPICS,
    LATE,
    MINUTES,
    SCHEMA_OF,
    UNBOUND,
    VEHICLE_TOPICS,
    Topic,
    declared,
)
from runners.stack.processes import free_port
from tests.support.kafka import ChangedKafka, new_topic, settings_of
from tests.support.servers import CACHE, running
from transforms.model.thresholds import Bounds

pytestmark = pytest.mark.servers

ONE = TopicSettings(single_node=True, partitions=2)


def named(settings, name):
    return next(topic for topic in declared(settings) if topic.name == name)


def config_of(server, topic):
    client = AdminClient({"bootstrap.servers": server.address})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    found = client.describe_configs([resource])[resource].result()
    return {name: entry.value for name, entry in found.items()}


def partitions_of(server):
    topics = AdminClient({"bootstrap.servers": server.address}).list_topics(timeout=30).topics
    return {name: len(topic.partitions) for name, topic in topics.items()}


def test_fourteen_topics_are_declared():
    names = [topic.name for topic in declared(TopicSettings())]
    assert names == [*DEVICE_TOPICS, *VEHICLE_TOPICS, MINUTES, DEAD_LETTERS, UNBOUND, LATE]
    assert len(set(names)) == 14
    assert set(names) - set(SCHEMA_OF) == {UNBOUND, LATE}


def test_by_default_a_broker_may_be_lost_and_uploads_stay_two_days():
    for topic in declared(TopicSettings()):
        assert (topic.partitions, topic.replication) == (12, 3)
        assert topic.config["min.insync.replicas"] == "2"
        assert topic.config["unclean.leader.election.enable"] == "false"
    for name in (*DEVICE_TOPICS, *VEHICLE_TOPICS):
        config = named(TopicSettings(), name).config
        assert (config["cleanup.policy"], config["retention.ms"]) == ("delete", "172800000")


def test_minutes_are_compacted_and_never_deleted_by_age():
    config = named(TopicSettings(), MINUTES).config
    assert config["cleanup.policy"] == "compact" and "retention.ms" not in config


@pytest.mark.parametrize("name", [DEAD_LETTERS, UNBOUND, LATE])
def test_what_is_set_aside_stays_two_weeks(name):
    assert named(TopicSettings(), name).config["retention.ms"] == str(14 * 24 * 3_600_000)


def test_an_oversize_message_can_be_stored_and_then_become_a_dead_letter():
    device = int(named(TopicSettings(), "message-gps").config["max.message.bytes"])
    dead = int(named(TopicSettings(), DEAD_LETTERS).config["max.message.bytes"])
    assert device > 8 * Bounds().max_message_bytes
    assert device > Bounds().max_dead_letter_bytes
    assert dead > device + 512 * 1024


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"replication": 1, "min_insync": 1}, "replication 1"),
        ({"replication": 2, "min_insync": 3}, "min_insync 3"),
        ({"partitions": 0}, "partitions"),
        ({"timestamps": "Never"}, "timestamps"),
    ],
)
def test_settings_that_would_lose_uploads_are_refused(words, named):
    with pytest.raises(ValueError, match=named):
        TopicSettings(**words)


def test_a_single_node_has_one_replica_whatever_else_is_said():
    for topic in declared(TopicSettings(single_node=True, replication=3, min_insync=2)):
        assert (topic.replication, topic.config["min.insync.replicas"]) == (1, "1")


@pytest.fixture(scope="module")
def empty(servers):
    careless = "auto.create.topics.enable=true"
    server = ChangedKafka(servers / "careless", CACHE, port=free_port(2), more=careless)
    with running(server):
        yield server


def test_apply_makes_an_empty_cluster_as_declared_and_then_has_nothing_to_do(empty):
    settings = settings_of(empty)
    before = plan(settings, declared(ONE))
    assert {drift.action for drift in before.drifts} == {CREATE}
    assert {drift.topic for drift in before.drifts} == {topic.name for topic in declared(ONE)}
    assert "message-log" not in partitions_of(empty)
    assert apply(settings, declared(ONE)) == before
    assert plan(settings, declared(ONE)).drifts == apply(settings, declared(ONE)).drifts == ()
    for topic in declared(ONE):
        assert topic.config.items() <= config_of(empty, topic.name).items()
        assert partitions_of(empty)[topic.name] == 2


@pytest.fixture
def one(kafka):
    """A topic of this test alone, there as declared."""
    topic = Topic(new_topic(kafka, 2, retention_ms=1000), 2, 1, {"retention.ms": "1000"})
    topic.config["min.insync.replicas"] = "1"
    return topic


def changed(topic, partitions=None, replication=1, keyed=True, **config):
    more = {name.replace("_", "."): str(value) for name, value in config.items()}
    count = partitions or topic.partitions
    return Topic(topic.name, count, replication, topic.config | more, keyed)


def test_a_setting_that_differs_is_altered_and_every_other_stays(kafka, one):
    wanted = changed(one, retention_ms=2000)
    (drift,) = plan(settings_of(kafka), [wanted]).drifts
    assert (drift.setting, drift.found, drift.wanted, drift.action) == (
        "retention.ms", "1000", "2000", ALTER,
    )  # fmt: skip
    before = config_of(kafka, one.name)
    apply(settings_of(kafka), [wanted])
    assert config_of(kafka, one.name) == before | {"retention.ms": "2000"}
    assert plan(settings_of(kafka), [wanted]).drifts == ()


def test_a_keyed_topic_gets_partitions_only_when_told_so(kafka, one):
    wanted = changed(one, partitions=5, retention_ms=2000)
    settings = settings_of(kafka)
    with pytest.raises(BadSettings, match=r"(?s)has 2 partitions, 5.*--allow-repartition.*nothing"):
        apply(settings, [wanted])
    assert partitions_of(kafka)[one.name] == 2
    assert config_of(kafka, one.name)["retention.ms"] == "1000"
    apply(settings, [wanted], allow_repartition=True)
    assert partitions_of(kafka)[one.name] == 5
    assert config_of(kafka, one.name)["retention.ms"] == "2000"
    assert apply(settings, [wanted]).drifts == ()


def test_a_topic_without_keys_gets_partitions_at_once(kafka, one):
    apply(settings_of(kafka), [changed(one, partitions=3, keyed=False)])
    assert partitions_of(kafka)[one.name] == 3


@pytest.mark.parametrize("keyed", [True, False])
def test_partitions_cannot_be_taken_away(kafka, one, keyed):
    wanted = changed(one, partitions=1, keyed=keyed)
    (drift,) = plan(settings_of(kafka), [wanted]).drifts
    assert drift.action == BY_HAND
    with pytest.raises(BadSettings, match=r"cannot take partitions away; declare 2"):
        apply(settings_of(kafka), [wanted], allow_repartition=True)


def test_more_replicas_than_brokers_are_refused_before_anything_is_made(kafka):
    before = partitions_of(kafka)
    with pytest.raises(BadSettings, match=r"replication 3: .* has 1 brokers.*single_node"):
        apply(settings_of(kafka), declared(TopicSettings()))
    assert partitions_of(kafka) == before


def test_unreachable_brokers_are_a_failed_dependency(monkeypatch):
    monkeypatch.setattr("connectors.kafka.topic_changes.REQUEST_S", 2.0)
    with pytest.raises(DependencyFailed, match=r"127\.0\.0\.1:1 "):
        plan(KafkaSettings(bootstrap="127.0.0.1:1"), declared(ONE))


def test_what_kafka_refuses_is_told_with_topic_and_reason(kafka, one):
    with pytest.raises(DependencyFailed, match=rf"alter {one.name}.*retention\.ms"):
        apply(settings_of(kafka), [changed(one, retention_ms="soon")])


def test_a_large_message_fits_where_it_shall(empty):
    apply(settings_of(empty), declared(ONE))
    for name, size in (("message-gps", (8 << 20) - 1000), (DEAD_LETTERS, (9 << 20) - 1000)):
        words = {"bootstrap.servers": empty.address, "message.max.bytes": 12 << 20}
        producer = Producer(words)
        producer.produce(name, bytes(size), partition=0)
        assert producer.flush(30) == 0
        settings = settings_of(empty)
        assert end_offsets(settings, [name])[name, 0] == 1
        (batch,) = read_range(settings, name, 0, 0, 1)
        assert len(batch.column("value")[0].as_py()) == size


def test_brokers_that_make_topics_by_themselves_are_warned_of(kafka, empty):
    assert plan(settings_of(kafka), []).warnings == ()
    (warning,) = plan(settings_of(empty), declared(ONE)).warnings
    assert "brokers 1 have auto.create.topics.enable=true" in warning


def test_another_topic_is_never_touched(kafka, one):
    client = AdminClient({"bootstrap.servers": kafka.address})
    other = f"{one.name}-other"
    client.create_topics([NewTopic(other, 1, 1)])[other].result()
    before = config_of(kafka, other)
    apply(settings_of(kafka), [changed(one, retention_ms=9000)])
    assert config_of(kafka, other) == before and partitions_of(kafka)[other] == 1
