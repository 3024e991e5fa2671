"""The sink of rows: telemetry and vehicle minutes into a store that takes rows by key.

What an upload says by itself is written at once. What its terminal's other uploads say about it is
written over that soon after, until the store holds what a backfill would write.
"""

from __future__ import annotations

import math
from typing import Any

from connectors.tables import MINUTES
from pipelines.graph import BYTES, Graph, java
from pipelines.live import Live
from pipelines.records import OUT_RECORD as OUT
from pipelines.sink_stages import FirstRowsStage, MinuteRowsStage, RevisedRowsStage
from pipelines.stages import MINUTES_TOPIC
from pipelines.stores import tables_of
from transforms.first_look import REGISTERED


def build(graph: Graph, live: Live, start_at: str, transactions: str) -> None:
    """The whole job, from Kafka to the store; what it refuses goes to dead letters."""
    properties = live.source_properties()
    records = graph.device_records(live.device_topics, properties, start_at)
    register, refused = graph.python(records, "first rows", FirstRowsStage(live), [REGISTERED, OUT])
    (revised,) = graph.python(
        _dossiers(graph, live, register), "revised rows", RevisedRowsStage(live), [OUT]
    )
    letters = refused.union(revised)
    if MINUTES in tables_of(live):
        minutes = graph.records("vehicle minutes", [MINUTES_TOPIC], properties, start_at)
        (unwanted,) = graph.python(minutes, "minute rows", MinuteRowsStage(live), [OUT])
        letters = letters.union(unwanted)
    graph.to_kafka(letters, "kafka", live.sink_properties(), transactions)


def _dossiers(graph: Graph, live: Live, register: Any) -> Any:
    flink, rules = java(), live.rules.terminal
    return graph.keyed(
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
