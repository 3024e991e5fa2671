"""What a batch over the records of the device topics comes to: the truth a live job must reach."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass

import fastavro
import pyarrow as pa

from connectors.kafka.bounded_read import read_range
from connectors.kafka.client import READ_COMMITTED, begin_offsets, end_offsets, partitions
from connectors.kafka.settings import KafkaSettings
from connectors.schema_registry.lookup import RegistrySchemas
from connectors.schema_registry.settings import RegistrySettings
from pipelines.live.spec import DEVICE_TOPICS
from schemas import load
from transforms.bindings.bindings import Bindings
from transforms.decode.decoder import Decoder
from transforms.facts.in_memory import Facts, facts
from transforms.model.known_terminals import KnownTerminals
from transforms.model.raw_messages import SCHEMA as RAW
from transforms.model.thresholds import Rules


def records(kafka: KafkaSettings, topics, isolation=READ_COMMITTED):
    """Batches of `raw_messages.SCHEMA` of all records of some topics, partition by partition."""
    ends = end_offsets(kafka, topics, isolation)
    begins = begin_offsets(kafka, topics)
    for place in partitions(kafka, topics):
        if ends[place] > begins[place]:
            yield from read_range(kafka, *place, begins[place], ends[place], isolation)


def _named(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch as if each partition were one archive object, lines being offsets."""
    name = f"{batch.column('topic')[0].as_py()}+{batch.column('partition')[0].as_py():04d}"
    at = RAW.get_field_index("object")
    return batch.set_column(at, RAW.field(at), pa.array([name] * batch.num_rows))


@dataclass(frozen=True)
class Batch:
    """Facts of all device records, as one batch."""

    facts: Facts

    @classmethod
    def of(
        cls,
        kafka: KafkaSettings,
        registry: RegistrySettings,
        bindings: Bindings,
        known: KnownTerminals,
        rules: Rules,
    ):
        decoder = Decoder(rules.bounds, known, RegistrySchemas(registry))
        raws = [_named(batch) for batch in records(kafka, DEVICE_TOPICS)]
        return cls(facts(raws, decoder, bindings, rules))

    def minutes(self) -> dict[tuple[str, int], dict]:
        """Vehicle minutes by vehicle and minute (epoch ms), without revision."""
        return {_key(row): _plain(row) for row in self.facts.minutes.to_pylist()}


def _key(row) -> tuple[str, int]:
    return row["vehicle_id"], round(row["minute"].timestamp() * 1000)


def _plain(row) -> dict:
    return {name: value for name, value in row.items() if name != "revision"}


def decoded(kafka: KafkaSettings, topic: str, schema: str, isolation=READ_COMMITTED):
    """Key and decoded value of every record of a topic, tombstones as None, by partition."""
    parsed = fastavro.parse_schema(json.loads(json.dumps(load(schema).avro)))
    for batch in records(kafka, [topic], isolation):
        keys, values = batch.column("key").to_pylist(), batch.column("value").to_pylist()
        for key, value in zip(keys, values, strict=True):
            if value is None:
                yield key, None
                continue
            row = fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed)
            yield key, row


def live_minutes(kafka: KafkaSettings) -> dict[tuple[str, int], dict]:
    """The newest revision of every vehicle minute on its topic. Raises AssertionError where a
    revision does not grow, or a committed one comes twice."""
    rows: dict[bytes, dict | None] = {}
    revisions: dict[bytes, int] = {}
    for key, row in decoded(kafka, "vehicle-minutes", "vehicle_minute"):
        rows[key] = row
        if row is not None:
            assert row["revision"] > revisions.get(key, -1), f"{key!r}: revision {row['revision']}"
            revisions[key] = row["revision"]
    return {_key(row): _plain(row) for row in rows.values() if row is not None}


def differences(live, batch, most: int = 5) -> list[str]:
    """What the two say differently, in words."""
    told = []
    for key in sorted(live.keys() | batch.keys()):
        one, other = live.get(key), batch.get(key)
        if one != other:
            fields = (
                "only in the batch"
                if one is None
                else "only live"
                if other is None
                else {name: (one[name], other[name]) for name in one if one[name] != other[name]}
            )
            told.append(f"{key}: {fields}")
    return [f"{len(told)} of {len(batch)} minutes differ", *told[:most]] if told else []


def message_ids(kafka: KafkaSettings, message_type: str, isolation=READ_COMMITTED) -> Counter:
    """How often each upload stands on the vehicle topic of its type."""
    topic, schema = f"vehicle-{message_type}", f"vehicle_{message_type}"
    return Counter(row["message_id"] for _, row in decoded(kafka, topic, schema, isolation))
