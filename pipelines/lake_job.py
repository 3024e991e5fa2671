"""The live lake: device topics to telemetry tables, block by block, and vehicle minutes hour by
hour, until the lake holds what a backfill of the same topics would write."""

from __future__ import annotations

import math

from pyflink.datastream import DataStream

from pipelines.graph import BYTES, Graph, java
from pipelines.lake_stages import (
    BlockLookStage,
    HourStage,
    JudgeStage,
    WriteBlockStage,
    WriteHourStage,
    lake_of,
)
from pipelines.lake_units import UNIT_ROWS
from pipelines.live import Live
from pipelines.records import OUT_RECORD as OUT
from pipelines.stages import MINUTES_TOPIC
from transforms.first_look import REGISTERED

JUDGEMENTS_UNTIL_FULL = 2
"""A full block waits for what is soon told of its last uploads."""


def build(graph: Graph, live: Live, start_at: str, transactions: str) -> None:
    """The whole job, from Kafka to the lake."""
    flink, rules = java(), live.rules.terminal
    properties = live.source_properties()
    records = graph.device_records(live.device_topics, properties, start_at)
    register, reach = graph.python(records, "look", BlockLookStage(live), [REGISTERED, UNIT_ROWS])
    dossiers = graph.keyed(
        register,
        flink.Keys.Text(flink.Dossiers.LAYOUT, "device_no"),
        "dossiers",
        BYTES.get_java_type_info(),
        flink.Dossiers(
            live.keep_ms,
            graph.batching.rows,
            graph.batching.size_bytes,
            live.revise_after_ms,
            math.ceil(rules.ignition_debounce_s * 1000),
            math.ceil(rules.reboot_window_s * 1000) if rules.reboot_count > 1 else live.keep_ms,
        ),
    )
    (told,) = graph.python(dossiers, "judge", JudgeStage(live), [UNIT_ROWS])
    blocks = _units(graph, live, reach.union(told), "blocks", keeps_items=True)
    graph.python(blocks, "write blocks", WriteBlockStage(live), [OUT])
    minutes = graph.records("vehicle minutes", [MINUTES_TOPIC], properties, start_at)
    changed, refused = graph.python(minutes, "hours of minutes", HourStage(live), [UNIT_ROWS, OUT])
    hours = _units(graph, live, changed, "hours", keeps_items=False)
    (unread,) = graph.python(hours, "write hours", WriteHourStage(live), [OUT])
    graph.to_kafka(refused.union(unread), "kafka", live.sink_properties(), transactions)


def _units(graph: Graph, live: Live, rows: DataStream, name: str, keeps_items: bool) -> DataStream:
    """What is told of units, until they are due. A block is remembered longer than the uploads in
    it, so that it is never written again without what was told of some."""
    flink = java()
    return graph.keyed(
        rows,
        flink.Keys.Text(flink.Blocks.LAYOUT, "unit"),
        name,
        BYTES.get_java_type_info(),
        flink.Blocks(
            2 * live.keep_ms,
            keeps_items,
            JUDGEMENTS_UNTIL_FULL * live.revise_after_ms,
            lake_of(live).rotate_schedule_interval_ms,
        ),
    )
