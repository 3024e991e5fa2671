"""Uploads written by hand, for what a simulated fleet does not do."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Producer

from connectors.kafka.client import client_properties
from connectors.kafka.settings import KafkaSettings

START_MS = 1_760_000_400_000
"""A full minute in October 2025, UTC."""


def log(device_no: str, seq: int, device_ms: int | None, received_ms: int, **values: Any) -> bytes:
    """A log report in STS JSON."""
    received = datetime.fromtimestamp(received_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SGMT")
    report = {"spd": 30, "ign": True, "odo": 1000 * (seq + 1), "bat": 12.6} | values
    upload = {
        "device_no": device_no,
        "type": "log",
        "fw": "STS-2.4.1",
        "boot": 3,
        "seq": seq,
        "timestamp": received,
        "d": report,
    }
    return json.dumps(upload | ({} if device_ms is None else {"ts": device_ms})).encode()


def send(kafka: KafkaSettings, topic: str, records: Iterable[tuple[Any, ...]]) -> None:
    """Records (key, value, timestamp ms, and a partition where it matters) to a topic, in order."""
    producer = Producer({**client_properties(kafka), "partitioner": "murmur2_random"})
    for key, value, timestamp_ms, *partition in records:
        place = {"partition": partition[0]} if partition else {}
        producer.produce(topic, key=key, value=value, timestamp=timestamp_ms, **place)
        producer.poll(0)
    assert producer.flush(60) == 0


def bindings(terminals: Iterable[str]) -> str:
    """A bindings file in which terminal T sits in vehicle CAR-T, always."""
    rows = [f"{name},CAR-{name},2020-01-01T00:00:00Z,,1" for name in terminals]
    return "\n".join(["device_no,vehicle_id,valid_from,valid_to,binding_version", *rows, ""])
