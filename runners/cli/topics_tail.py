"""`odograph topics tail`: the newest messages of a topic, decoded."""

from __future__ import annotations

import io
import json
import time
from datetime import datetime
from typing import Any

import click
import fastavro

from connectors.kafka.bounded_read import read_range
from connectors.kafka.client import begin_offsets, end_offsets, partitions
from connectors.schema_registry.lookup import RegistrySchemas
from runners.config import Config, load_config

LOOK_S = 1.0


@click.command("tail")
@click.argument("topic")
@click.option(
    "--config", "path", required=True, type=click.Path(dir_okay=False), help="YAML settings."
)
@click.option(
    "-n", "count", default=5, show_default=True, type=click.IntRange(min=1), help="How many."
)
@click.option(
    "--wait-s", default=60.0, show_default=True, help="Wait so long for a first message to come."
)
def tail(topic: str, path: str, count: int, wait_s: float) -> None:
    """Print the newest committed messages of TOPIC, one JSON object a line, oldest first.

    Avro is decoded by the registry's schemas; positions, plates and phone numbers are shown as
    they are, so mind who reads along.
    """
    config = load_config(path)
    schemas = RegistrySchemas(config.registry)
    deadline = time.monotonic() + wait_s
    while not (rows := newest(config, topic, count)) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    for row in rows:
        value = row["value"]
        shown = {
            "partition": row["partition"],
            "offset": row["offset"],
            "timestamp": row["timestamp"],
            "key": None if row["key"] is None else row["key"].decode("utf-8", "replace"),
            "value": None if value is None else decoded(value, schemas),
        }
        click.echo(json.dumps(shown, default=_plain, ensure_ascii=False))


def newest(config: Config, topic: str, count: int) -> list[dict[str, Any]]:
    """The last `count` committed records of a topic by time, oldest first, as rows of raw
    messages (`raw_messages.SCHEMA`)."""
    begins = begin_offsets(config.kafka, [topic])
    ends = end_offsets(config.kafka, [topic])
    rows: list[dict[str, Any]] = []
    for partition in partitions(config.kafka, [topic]):
        # transactions leave markers between the records: look back twice as far
        start = max(begins[partition], ends[partition] - 2 * count - 100)
        for batch in read_range(config.kafka, *partition, start, ends[partition]):
            rows += batch.to_pylist()[-count:]
    return sorted(rows, key=lambda row: (row["timestamp"], row["offset"]))[-count:]


def decoded(value: bytes, schemas: RegistrySchemas) -> Any:
    """The record of a message in Confluent framing; other messages as text."""
    if len(value) > 5 and value[0] == 0:
        writer = schemas.lookup(int.from_bytes(value[1:5], "big"))
        if writer is not None:
            parsed = fastavro.parse_schema(writer)
            return fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed, None)
    return value.decode("utf-8", "replace")


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else repr(value)
