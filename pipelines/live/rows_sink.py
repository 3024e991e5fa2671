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

UID_FIRST_ROWS = "first rows"
UID_REVISED_ROWS = "revised rows"
UID_VEHICLE_MINUTES = "vehicle minutes"
UID_MINUTE_ROWS = "minute rows"


def build(graph: Graph, live: LiveJobSpec, start_at: str, transactions: str) -> None:
    """The whole job, from Kafka to the store; what it refuses goes to dead letters."""
    properties = live.source_properties()
    records = graph.device_records(live.device_topics, properties, start_at)
    summaries, refused = graph.python(records, UID_FIRST_ROWS, FirstRowsStage(live))
    judged = dossiers(graph, live, summaries)
    (revised,) = graph.python(judged, UID_REVISED_ROWS, RevisedRowsStage(live))
    letters = refused.union(revised)
    if MINUTES in tables_of(live.store):
        minutes = graph.records(UID_VEHICLE_MINUTES, [topics.MINUTES], properties, start_at)
        (unwanted,) = graph.python(minutes, UID_MINUTE_ROWS, MinuteRowsStage(live))
        letters = letters.union(unwanted)
    graph.to_kafka(letters, live.sink_properties(), transactions)
