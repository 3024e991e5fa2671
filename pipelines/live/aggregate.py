"""The aggregate job: device topics to vehicle minutes, kept right as late uploads come.

What an upload says by itself counts at once. What its terminal's other uploads say about it
(duplicates, clocks, ignition, odometer) corrects it soon after, until both equal the backfill.
"""

from __future__ import annotations

from pyflink.datastream import DataStream

from pipelines.live.aggregate_stages import LookStage, MinutesStage, ReviseStage
from pipelines.live.flink.graph import BYTES, Graph, java
from pipelines.live.flink.terminal_uploads import dossiers
from pipelines.live.spec import LiveJobSpec


def build(graph: Graph, live: LiveJobSpec, start_at: str, transactions: str) -> None:
    """The whole job, from Kafka to Kafka."""
    flink = java()
    records = graph.device_records(live.device_topics, live.source_properties(), start_at)
    register, late = graph.python(records, "first look", LookStage(live))
    judged = dossiers(graph, live, register)
    (revised,) = graph.python(judged, "revise", ReviseStage(live))
    said = DataStream(judged._j_data_stream.getSideOutput(flink.TerminalUploads.said()))
    corrected = graph.keyed(
        revised,
        flink.Keys.Text(flink.MinuteCorrections.LAYOUT, "device_no"),
        "contributions",
        flink.Layout(flink.VehicleMinutes.LAYOUT).typeInfo(),
        flink.MinuteCorrections(live.keep_ms),
    )
    changed = graph.keyed(
        said.union(corrected),
        flink.Keys.VehicleMinute(),
        "minutes",
        BYTES.get_java_type_info(),
        flink.VehicleMinutes(live.keep_ms, graph.batching.rows, live.minutes_every_ms),
    )
    (minutes,) = graph.python(changed, "merge", MinutesStage(live))
    graph.to_kafka(minutes.union(late), "kafka", live.sink_properties(), transactions)
