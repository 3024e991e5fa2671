"""The verdict on an upload as if it were its terminal's only one, and what follows from it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from transforms.model.arrow_numpy import filled_int64
from transforms.model.thresholds import Rules
from transforms.model.uploads import Uploads, latest_device_time
from transforms.terminal_rules.clock import Times, judge_clocks
from transforms.terminal_rules.verdicts import Verdicts


def lone_verdicts(summaries: pa.RecordBatch, rules: Rules) -> Verdicts:
    """On each upload of which there is a summary (received_ms, latest_ms, boot_count, uptime_s)."""
    received = filled_int64(summaries.column("received_ms"), 0)
    return _on_clocks(summaries, received, filled_int64(summaries.column("latest_ms"), 0), rules)


def newest_event_ms(uploads: Uploads, rules: Rules) -> np.ndarray:
    """int64 of shape (uploads,): when the newest sample of each happened; `uploads` as decoded."""
    received = filled_int64(uploads.head.column("received_time"), 0)
    latest = latest_device_time(uploads)
    return _on_clocks(uploads.head, received, latest, rules).event_ms(latest)


def is_late(received_ms: np.ndarray, event_ms: np.ndarray, lateness_ms: int) -> np.ndarray:
    """bool of shape (uploads,): received so long after it happened that its minute is closed. A
    function of the upload alone, so that a replay decides the same."""
    return np.asarray(received_ms - event_ms > lateness_ms)


def _on_clocks(
    rows: pa.RecordBatch, received_ms: np.ndarray, latest_ms: np.ndarray, rules: Rules
) -> Verdicts:
    boot_count = filled_int64(rows.column("boot_count"), -1)
    uptime_s = filled_int64(rows.column("uptime_s"), -1)
    times = Times(np.arange(rows.num_rows), received_ms, latest_ms, boot_count, uptime_s)
    return Verdicts.of_clocks(judge_clocks(times, rules.clock), received_ms)
