"""The live lake: device topics to telemetry tables, block by block, and vehicle minutes hour by
hour, until the lake holds what a backfill of the same topics would write."""

from __future__ import annotations

from pyflink.datastream import DataStream

from connectors.kafka import topics
from pipelines.live.flink.graph import BYTES, Graph, java
from pipelines.live.flink.terminal_uploads import dossiers
from pipelines.live.lake_sink.stages import (
    BlockLookStage,
    HourStage,
    JudgeStage,
    WriteBlockStage,
    WriteHourStage,
    lake_of,
)
from pipelines.live.spec import LiveJobSpec

UID_LOOK = "look"
UID_JUDGE = "judge"
UID_BLOCKS = "blocks"
UID_WRITE_BLOCKS = "write blocks"
UID_VEHICLE_MINUTES = "vehicle minutes"
UID_HOURS_OF_MINUTES = "hours of minutes"
UID_HOURS = "hours"
UID_WRITE_HOURS = "write hours"
JUDGEMENTS_UNTIL_FULL = 2
"""A full block waits until its last uploads were judged."""


def build(graph: Graph, live: LiveJobSpec, start_at: str, transactions: str) -> None:
    """The whole job, from Kafka to the lake."""
    properties = live.source_properties()
    records = graph.device_records(live.device_topics, properties, start_at)
    summaries, reach = graph.python(records, UID_LOOK, BlockLookStage(live))
    judged = dossiers(graph, live, summaries)
    (overrides,) = graph.python(judged, UID_JUDGE, JudgeStage(live))
    blocks = _units(graph, live, reach.union(overrides), UID_BLOCKS, keeps_items=True)
    graph.python(blocks, UID_WRITE_BLOCKS, WriteBlockStage(live))
    minutes = graph.records(UID_VEHICLE_MINUTES, [topics.MINUTES], properties, start_at)
    changed, refused = graph.python(minutes, UID_HOURS_OF_MINUTES, HourStage(live))
    hours = _units(graph, live, changed, UID_HOURS, keeps_items=False)
    (unread,) = graph.python(hours, UID_WRITE_HOURS, WriteHourStage(live))
    graph.to_kafka(refused.union(unread), live.sink_properties(), transactions)


def _units(
    graph: Graph, live: LiveJobSpec, rows: DataStream, name: str, keeps_items: bool
) -> DataStream:
    """Changes of units, until they are due. A block is remembered longer than the uploads in it, so
    that it is never written again without the verdicts on some."""
    flink = java()
    return graph.keyed(
        rows,
        flink.Keys.Text(flink.WorkUnits.LAYOUT, "unit"),
        name,
        BYTES.get_java_type_info(),
        flink.WorkUnits(
            2 * live.keep_ms,
            keeps_items,
            JUDGEMENTS_UNTIL_FULL * live.revise_after_ms,
            lake_of(live).rotate_schedule_interval_ms,
        ),
    )
