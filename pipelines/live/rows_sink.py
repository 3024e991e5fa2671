"""The sink of rows: telemetry and vehicle minutes into a store that takes rows by key.

What an upload says by itself is written at once. What its terminal's other uploads say about it is
written over that soon after, until the store holds what a backfill would write.
"""

from __future__ import annotations

from connectors.kafka import topics
from connectors.sinks.tables import MINUTES
from pipelines.live.flink.graph import Graph
from pipelines.live.flink.terminal_uploads import dossiers
from pipelines.live.rows_sink_stages import FirstRowsStage, MinuteRowsStage, RevisedRowsStage
from pipelines.live.spec import LiveJobSpec
from pipelines.open_sink import tables_of


def build(graph: Graph, live: LiveJobSpec, start_at: str, transactions: str) -> None:
    """The whole job, from Kafka to the store; what it refuses goes to dead letters."""
    properties = live.source_properties()
    records = graph.device_records(live.device_topics, properties, start_at)
    register, refused = graph.python(records, "first rows", FirstRowsStage(live))
    judged = dossiers(graph, live, register)
    (revised,) = graph.python(judged, "revised rows", RevisedRowsStage(live))
    letters = refused.union(revised)
    if MINUTES in tables_of(live.store):
        minutes = graph.records("vehicle minutes", [topics.MINUTES], properties, start_at)
        (unwanted,) = graph.python(minutes, "minute rows", MinuteRowsStage(live))
        letters = letters.union(unwanted)
    graph.to_kafka(letters, "kafka", live.sink_properties(), transactions)
