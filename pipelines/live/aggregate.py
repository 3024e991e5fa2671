"""The aggregate job: device topics to vehicle minutes, kept right as late uploads come.

What an upload says by itself counts at once. What its terminal's other uploads say about it
(duplicates, clocks, ignition, odometer) corrects it soon after, until both equal the backfill.
"""

from __future__ import annotations

from pipelines.live.aggregate_stages import LookStage, MinutesStage, ReviseStage
from pipelines.live.flink.graph import BYTES, Graph, java
from pipelines.live.flink.terminal_uploads import dossiers
from pipelines.live.spec import LiveJobSpec

UID_FIRST_LOOK = "first look"
UID_REVISE = "revise"
UID_CONTRIBUTIONS = "contributions"
UID_MINUTES = "minutes"
UID_MERGE = "merge"


def build(graph: Graph, live: LiveJobSpec, start_at: str, transactions: str) -> None:
    """The whole job, from Kafka to Kafka."""
    flink = java()
    records = graph.device_records(live.device_topics, live.source_properties(), start_at)
    summaries, late = graph.python(records, UID_FIRST_LOOK, LookStage(live))
    judged = dossiers(graph, live, summaries)
    (revised,) = graph.python(judged, UID_REVISE, ReviseStage(live))
    first_parts = graph.side_output(judged, flink.TerminalUploads.firstParts())
    corrected = graph.keyed(
        revised,
        flink.Keys.Text(flink.MinuteCorrections.LAYOUT, "device_no"),
        UID_CONTRIBUTIONS,
        flink.VehicleMinutes.LAYOUT.typeInfo(),
        flink.MinuteCorrections(live.keep_ms),
    )
    changed = graph.keyed(
        first_parts.union(corrected),
        flink.Keys.VehicleMinute(),
        UID_MINUTES,
        BYTES.get_java_type_info(),
        flink.VehicleMinutes(live.keep_ms, graph.batching.rows, live.minutes_every_ms),
    )
    (minutes,) = graph.python(changed, UID_MERGE, MinutesStage(live))
    graph.to_kafka(minutes.union(late), live.sink_properties(), transactions)
