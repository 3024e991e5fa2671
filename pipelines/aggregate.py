"""The aggregate job: device topics to vehicle minutes, kept right as late uploads come.

What an upload says by itself counts at once. What its terminal's other uploads say about it
(duplicates, clocks, ignition, odometer) corrects it soon after, until both equal the backfill.
"""

from __future__ import annotations

import math

from pyflink.datastream import DataStream

from pipelines.graph import BYTES, Graph, java
from pipelines.live import Live
from pipelines.stages import OUT_RECORD as OUT
from pipelines.stages import LookStage, MinutesStage, ReviseStage
from transforms.first_look import CONTRIBUTIONS, REGISTERED


def build(graph: Graph, live: Live, start_at: str, transactions: str) -> None:
    """The whole job, from Kafka to Kafka."""
    flink = java()
    keep_ms = live.keep_ms
    rules = live.rules.terminal
    records = graph.device_records(live.device_topics, live.source_properties(), start_at)
    register, late = graph.python(records, "first look", LookStage(live), [REGISTERED, OUT])
    dossiers = graph.keyed(
        register,
        flink.Keys.Text(flink.Dossiers.LAYOUT, "device_no"),
        "dossiers",
        BYTES.get_java_type_info(),
        flink.Dossiers(
            keep_ms,
            graph.batching.rows,
            graph.batching.size_bytes,
            live.revise_after_ms,
            math.ceil(rules.ignition_debounce_s * 1000),
            math.ceil(rules.reboot_window_s * 1000) if rules.reboot_count > 1 else live.keep_ms,
        ),
    )
    (revised,) = graph.python(dossiers, "revise", ReviseStage(live), [CONTRIBUTIONS])
    said = DataStream(dossiers._j_data_stream.getSideOutput(flink.Dossiers.said()))
    corrected = graph.keyed(
        revised,
        flink.Keys.Text(flink.Contributions.LAYOUT, "device_no"),
        "contributions",
        flink.Layout(flink.Minutes.LAYOUT).typeInfo(),
        flink.Contributions(keep_ms),
    )
    changed = graph.keyed(
        said.union(corrected),
        flink.Keys.VehicleMinute(),
        "minutes",
        BYTES.get_java_type_info(),
        flink.Minutes(keep_ms, graph.batching.rows, live.minutes_every_ms),
    )
    (minutes,) = graph.python(changed, "merge", MinutesStage(live), [OUT])
    graph.to_kafka(minutes.union(late), "kafka", live.sink_properties(), transactions)
