"""The topics of Odograph: their names, and their settings on Kafka."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.kafka.settings import TopicSettings
from schemas import MESSAGE_TYPES


def device_topic(message_type: str) -> str:
    """Where terminals' uploads of this type come in, by device_no."""
    return f"message-{message_type}"


def vehicle_topic(message_type: str) -> str:
    """Where the same uploads go out with their vehicle, by vehicle_id."""
    return f"vehicle-{message_type}"


MINUTES, DEAD_LETTERS, UNBOUND, LATE = "vehicle-minutes", "dead-letters", "unbound", "late"
DEVICE_TOPICS = tuple(map(device_topic, MESSAGE_TYPES))
VEHICLE_TOPICS = tuple(map(vehicle_topic, MESSAGE_TYPES))
SET_ASIDE = (DEAD_LETTERS, UNBOUND, LATE)
SCHEMA_OF = {
    **{topic: topic.replace("-", "_") for topic in (*DEVICE_TOPICS, *VEHICLE_TOPICS)},
    MINUTES: "vehicle_minute",
    DEAD_LETTERS: "dead_letter",
}
"""The schema file of each topic's values; `unbound` and `late` carry what a terminal sent."""
ENVELOPE_BYTES = 1 << 20
"""How many bytes more a topic of messages set aside takes than a device topic: for the columns
around the original bytes."""
SEGMENTS = 8
HOUR_MS = 3_600_000
COMPACT_AFTER_MS = HOUR_MS


@dataclass(frozen=True)
class Topic:
    """A declared topic. In a `keyed` topic the order of the messages of a key matters."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]
    keyed: bool = True


def declared(settings: TopicSettings) -> list[Topic]:
    """Every topic of Odograph with its settings."""
    single = settings.single_node
    replication = 1 if single else settings.replication
    common = {
        "min.insync.replicas": str(1 if single else settings.min_insync),
        "unclean.leader.election.enable": "false",
        "message.timestamp.type": settings.timestamps,
    }

    def topic(name: str, more: dict[str, str], keyed: bool = True) -> Topic:
        return Topic(name, settings.partitions, replication, common | more, keyed)

    device = settings.max_message_bytes
    flowing = _deleting(settings.retention_hours) | {"max.message.bytes": str(device)}
    aside = _deleting(settings.set_aside_retention_hours)
    aside["max.message.bytes"] = str(device + ENVELOPE_BYTES)
    compacted = {
        "cleanup.policy": "compact",
        "segment.ms": str(HOUR_MS),
        "max.compaction.lag.ms": str(COMPACT_AFTER_MS),
        "max.message.bytes": str(device),
    }
    return [
        *(topic(name, flowing) for name in (*DEVICE_TOPICS, *VEHICLE_TOPICS)),
        topic(MINUTES, compacted),
        *(topic(name, aside, keyed=name != DEAD_LETTERS) for name in SET_ASIDE),
    ]


def _deleting(hours: float) -> dict[str, str]:
    # a segment is deleted whole, so several of them keep deletion close to the hours set
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(round(hours * HOUR_MS)),
        "segment.ms": str(max(round(hours * HOUR_MS / SEGMENTS), 60_000)),
    }
