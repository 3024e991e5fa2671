"""The convert job: device topics to vehicle topics, each upload once, in its terminal's order."""

from __future__ import annotations

from pipelines.live.flink.graph import Graph
from pipelines.live.spec import LiveJobSpec
from pipelines.live.stage import ConvertStage


def build(graph: Graph, live: LiveJobSpec, start_at: str, transactions: str) -> None:
    """The whole job, from Kafka to Kafka."""
    records = graph.device_records(live.device_topics, live.source_properties(), start_at)
    (out,) = graph.python(records, "convert", ConvertStage(live))
    graph.to_kafka(out, "kafka", live.sink_properties(), transactions)
