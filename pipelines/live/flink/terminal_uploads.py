"""The step that remembers what terminals have uploaded, which aggregate and the sinks share."""

from __future__ import annotations

import math

from pyflink.datastream import DataStream

from pipelines.live.flink.graph import BYTES, Graph, java
from pipelines.live.spec import LiveJobSpec

UID_DOSSIERS = "dossiers"


def dossiers(graph: Graph, live: LiveJobSpec, summaries: DataStream) -> DataStream:
    """Upload summaries (`REMEMBERED`) to whole dossiers (`DOSSIER`) of terminals that are to be
    judged."""
    flink, rules = java(), live.rules.terminal
    return graph.keyed(
        summaries,
        flink.Keys.Text(flink.TerminalUploads.LAYOUT, "device_no"),
        UID_DOSSIERS,
        BYTES.get_java_type_info(),
        flink.TerminalUploads(
            live.keep_ms,
            graph.batching.rows,
            graph.batching.size_bytes,
            live.revise_after_ms,
            math.ceil(rules.ignition_debounce_s * 1000),
            math.ceil(rules.reboot_window_s * 1000) if rules.reboot_count > 1 else live.keep_ms,
        ),
    )
