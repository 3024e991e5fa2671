"""The convert job: device topics to vehicle topics, each upload once, in its terminal's order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.kafka import topics
from pipelines.live.flink.arrow_blocks import stage_output
from pipelines.live.kafka_records import OUT_RECORD, raw_batch
from pipelines.live.spec import LiveJobSpec
from pipelines.live.stage import Stage
from pipelines.live.vehicle_records import by_line, dead_records, vehicle_records
from transforms.live.first_verdict import decode_by_topic

if TYPE_CHECKING:
    from pipelines.live.flink.graph import Graph

UID_CONVERT = "convert"


def build(graph: Graph, live: LiveJobSpec, start_at: str, transactions: str) -> None:
    """The whole job, from Kafka to Kafka."""
    records = graph.device_records(live.device_topics, live.source_properties(), start_at)
    (out,) = graph.python(records, UID_CONVERT, ConvertStage(live))
    graph.to_kafka(out, live.sink_properties(), transactions)


class ConvertStage(Stage):
    """Records of device topics to those of vehicle topics, dead letters and unbound uploads."""

    OUTPUTS = (OUT_RECORD,)
    COUNTS = ("uploads_in", "uploads_good", "uploads_dead")

    def __call__(self, block: bytes) -> bytes:
        raw, _ = raw_batch(block)
        decoder, snapshot = self.worker.now()
        good, dead = decode_by_topic(raw, decoder)
        self.tally["uploads_in"] += raw.num_rows
        self.tally["uploads_good"] += sum(len(uploads) for uploads in good)
        self.tally["uploads_dead"] += dead.num_rows
        parts = [dead_records(dead, self.worker.schema_id(topics.DEAD_LETTERS))]
        for uploads in good:
            schema_id = self.worker.schema_id(topics.vehicle_topic(uploads.message_type))
            parts += vehicle_records(
                uploads, raw, snapshot, self.live.rules, schema_id, decoder.writers
            )
        return stage_output([(0, by_line(parts))])
