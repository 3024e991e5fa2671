"""Compares the topics of a Kafka cluster with the declared ones, creates and alters them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
    TopicMetadata,
)

from connectors.errors import BadSettings, DependencyFailed
from connectors.kafka.client import REQUEST_S, Troubles, admin, asking, bootstrap
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import Topic

SHOWN_AFTER_S = 0.2
CREATE, ALTER, BY_HAND = "create", "alter", "by hand"


@dataclass(frozen=True)
class Drift:
    """A difference between the cluster and the declared topics, and what can be done about it:
    `create`, `alter`, or only `by hand`. `found` is the value in the cluster, None where the topic
    or the setting does not exist."""

    topic: str
    setting: str
    found: str | None
    wanted: str
    action: str
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """All differences, and warnings for the user."""

    drifts: tuple[Drift, ...]
    warnings: tuple[str, ...] = ()


def plan(kafka: KafkaSettings, topics: Sequence[Topic]) -> Plan:
    """How the cluster differs from `topics`. Raises DependencyFailed; BadSettings where it has
    fewer brokers than replicas are wanted."""
    return Cluster(kafka).plan(topics)


def apply(kafka: KafkaSettings, topics: Sequence[Topic], allow_repartition: bool = False) -> Plan:
    """Create absent topics and alter those that differ; returns the differences before.

    Raises BadSettings, before anything is changed, where a keyed topic would get more partitions
    without `allow_repartition`, or any topic fewer; DependencyFailed where Kafka does not obey.
    """
    cluster = Cluster(kafka)
    planned = cluster.plan(topics)
    _refuse(planned.drifts, {topic.name: topic for topic in topics}, allow_repartition)
    cluster.create([topic for topic in topics if _of(planned.drifts, CREATE, topic.name)])
    for topic in topics:
        changes = _of(planned.drifts, ALTER, topic.name)
        if changes:
            cluster.alter(topic.name, changes)
    if any(drift.action != BY_HAND for drift in planned.drifts):
        cluster.wait(topics)
    return planned


def _of(drifts: Iterable[Drift], action: str, topic: str) -> list[Drift]:
    return [drift for drift in drifts if (drift.action, drift.topic) == (action, topic)]


def _refuse(drifts: Sequence[Drift], topics: dict[str, Topic], allow_repartition: bool) -> None:
    reasons, moving = [], []
    for drift in (drift for drift in drifts if drift.setting == "partitions" and drift.found):
        what = f"{drift.topic} has {drift.found} partitions, {drift.wanted} are declared"
        if drift.action == BY_HAND:
            reasons.append(f"{what}: Kafka cannot take partitions away; declare {drift.found}")
        elif topics[drift.topic].keyed and not allow_repartition:
            moving.append(what)
    if moving:
        reasons += moving
        reasons.append(
            "keys would move to other partitions and lose their order while old messages wait:"
            " stop the senders, let the jobs catch up, then apply with --allow-repartition"
        )
    if reasons:
        raise BadSettings("\n".join([*reasons, "nothing was changed"]))


@dataclass
class Cluster:
    """A Kafka cluster, asked and changed topic by topic."""

    settings: KafkaSettings
    client: AdminClient = field(init=False)
    troubles: Troubles = field(init=False)

    def __post_init__(self) -> None:
        self.client, self.troubles = admin(self.settings)

    def plan(self, topics: Sequence[Topic]) -> Plan:
        """How the cluster differs from `topics`."""
        with asking(self.settings, "list its topics", self.troubles):
            metadata = self.client.list_topics(timeout=REQUEST_S)
        wanted = max((topic.replication for topic in topics), default=1)
        if len(metadata.brokers) < wanted:
            raise BadSettings(
                f"topics.replication {wanted}: Kafka at {bootstrap(self.settings)} has"
                f" {len(metadata.brokers)} brokers; start more, or say topics.single_node: true"
                " where losing uploads is acceptable"
            )
        there = [topic for topic in topics if topic.name in metadata.topics]
        configs = self._configs([(ResourceType.TOPIC, topic.name) for topic in there])
        drifts: list[Drift] = []
        for topic in topics:
            if topic.name in configs:
                drifts += _differences(topic, metadata.topics[topic.name], configs[topic.name])
            else:
                drifts += _creation(topic)
        return Plan(tuple(drifts), tuple(self._warnings(sorted(metadata.brokers), topics)))

    def wait(self, topics: Sequence[Topic]) -> None:
        """Wait until the brokers show the accepted changes, which takes a moment. Raises
        DependencyFailed."""
        deadline = time.monotonic() + REQUEST_S
        while left := [drift for drift in self.plan(topics).drifts if drift.action != BY_HAND]:
            if time.monotonic() > deadline:
                raise DependencyFailed(
                    f"Kafka at {bootstrap(self.settings)} accepted the changes, but still shows"
                    f" {left[0].topic} {left[0].setting} {left[0].found}: look at its log"
                )
            time.sleep(SHOWN_AFTER_S)

    def _configs(self, resources: Sequence[tuple[Any, str]]) -> dict[str, dict[str, str]]:
        asked = [ConfigResource(kind, name) for kind, name in resources]
        if not asked:
            return {}
        with asking(self.settings, "describe topics and brokers", self.troubles):
            futures = self.client.describe_configs(asked, request_timeout=REQUEST_S)
            return {
                resource.name: {name: entry.value for name, entry in future.result().items()}
                for resource, future in futures.items()
            }

    def _warnings(self, brokers: Sequence[int], topics: Sequence[Topic]) -> list[str]:
        configs = self._configs([(ResourceType.BROKER, str(broker)) for broker in brokers])
        name = "auto.create.topics.enable"
        creating = [broker for broker, config in configs.items() if config.get(name) != "false"]
        warnings = []
        if creating:
            warnings.append(
                f"brokers {', '.join(creating)} have {name}=true: a misspelt topic is made with"
                " their defaults, and so is a declared one that a client names before `apply`; set"
                " it to false"
            )
        for topic in topics:
            if topic.replication == int(topic.config["min.insync.replicas"]) > 1:
                warnings.append(
                    f"topics.min_insync {topic.replication} equals topics.replication: nothing can"
                    " be written while a broker restarts"
                )
                break
        return warnings

    def create(self, topics: Sequence[Topic]) -> None:
        """Create topics; a topic that another client made meanwhile is left to the next plan."""
        if not topics:
            return
        new = [
            NewTopic(topic.name, topic.partitions, topic.replication, config=topic.config)
            for topic in topics
        ]
        futures = self.client.create_topics(new, request_timeout=REQUEST_S)
        self._settle("create", futures, {KafkaError.TOPIC_ALREADY_EXISTS})

    def alter(self, topic: str, changes: Sequence[Drift]) -> None:
        """Change partitions and settings of a topic as `changes` say, and nothing else."""
        for drift in changes:
            if drift.setting == "partitions":
                more = [NewPartitions(topic, int(drift.wanted))]
                self._settle("repartition", self.client.create_partitions(more), set())
        entries = [
            ConfigEntry(change.setting, change.wanted, incremental_operation=AlterConfigOpType.SET)
            for change in changes
            if change.setting != "partitions"
        ]
        if entries:
            resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
            futures = self.client.incremental_alter_configs([resource], request_timeout=REQUEST_S)
            self._settle("alter", {topic: futures[resource]}, set())

    def _settle(self, verb: str, futures: dict[str, Future[Any]], fine: set[int]) -> None:
        failed = []
        for topic, future in futures.items():
            try:
                with asking(self.settings, f"{verb} {topic}", self.troubles):
                    future.result()
            except DependencyFailed as error:
                cause = error.__cause__
                if not isinstance(cause, KafkaException) or cause.args[0].code() not in fine:
                    failed.append(str(error))
        if failed:
            raise DependencyFailed("\n".join([*failed, "apply again to go on"]))


def _creation(topic: Topic) -> list[Drift]:
    settings = {"partitions": str(topic.partitions), "replication": str(topic.replication)}
    settings |= topic.config
    return [Drift(topic.name, name, None, value, CREATE) for name, value in settings.items()]


def _differences(topic: Topic, existing: TopicMetadata, config: dict[str, str]) -> list[Drift]:
    drifts = []
    count = len(existing.partitions)
    if count != topic.partitions:
        possible = ALTER if count < topic.partitions else BY_HAND
        note = "moves keys to other partitions" if topic.keyed else ""
        note = note if possible == ALTER else "partitions cannot be taken away"
        wanted = str(topic.partitions)
        drifts.append(Drift(topic.name, "partitions", str(count), wanted, possible, note))
    replicas = min(
        (len(partition.replicas) for partition in existing.partitions.values()), default=0
    )
    if replicas < topic.replication:
        note = "reassign with kafka-reassign-partitions"
        wanted = str(topic.replication)
        drifts.append(Drift(topic.name, "replication", str(replicas), wanted, BY_HAND, note))
    drifts += [
        Drift(topic.name, name, config.get(name), value, ALTER)
        for name, value in topic.config.items()
        if config.get(name) != value
    ]
    return drifts
