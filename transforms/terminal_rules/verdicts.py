"""Verdicts: all rules that look beyond one upload, over the upload summaries of some terminals.

Only exceptions get a verdict. An upload without one counts, is shown, has a good clock and no flag
from these rules; so the verdicts of a fleet without faults take no space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas import MESSAGE_TYPES
from transforms.model.arrow_numpy import filled_int64, identities, ranks, single, sort_rows
from transforms.model.quality_flags import BIT
from transforms.model.thresholds import Rules
from transforms.terminal_rules.clock import DEVICE, FALLBACK, Times, judge_clocks
from transforms.terminal_rules.duplicates import rule_duplicates
from transforms.terminal_rules.reports import ignition_chatter, odometer_resets, reboot_loops
from transforms.terminal_rules.upload_summary import SCHEMA as SUMMARY

SCHEMA = pa.schema(
    [
        pa.field("object", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("counts", pa.bool_(), nullable=False),
        pa.field("shows", pa.bool_(), nullable=False),
        pa.field("offset_ms", pa.int64(), nullable=False),
        pa.field("source", pa.int8(), nullable=False),
        pa.field("received_ms", pa.int64(), nullable=False),
        pa.field("flags", pa.int64(), nullable=False),
        pa.field("ignition_counts", pa.bool_()),
    ]
)
"""The verdict on one upload, by archive object and line. `counts`: it feeds the minutes; `shows`:
its rows stand in the telemetry table; `offset_ms`: device time minus event time; `source`: an index
into `clock.SOURCES`; `received_ms`: receive time (epoch ms) of the upload that counts, the event
time of a fallback; `flags`: bits of `quality_flags`; `ignition_counts`: the debounced ignition
state, null where the reported one counts."""

SUMMARIES = pa.schema([pa.field("object", pa.string(), nullable=False), *SUMMARY])
"""Upload summaries, each with the archive object that the upload lies in."""

VehicleOf = Callable[[pa.Array, np.ndarray], np.ndarray]
"""Vehicle codes (int64, negative for none) for terminals and event times in ms."""


@dataclass(frozen=True)
class _Columns:
    """Columns of upload summaries as arrays of shape (uploads,). `source_rank` is the rank of
    object and line: a unique number each, in that order."""

    terminal: np.ndarray
    message: np.ndarray
    order: tuple[np.ndarray, ...]
    source_rank: np.ndarray
    numbers: dict[str, np.ndarray]

    def sorted(self, rows: np.ndarray, *keys: np.ndarray) -> np.ndarray:
        """`rows` sorted by the given keys (the last key comes first), ties by message_id."""
        return sort_rows(rows, (self.source_rank, *self.order, *keys))


def judge(summaries: pa.Table, vehicle_of: VehicleOf, rules: Rules) -> pa.RecordBatch:
    """Verdicts (`SCHEMA`) over upload summaries (`SUMMARIES`), which may come in any order.

    The result is sorted by object and line. The summaries must be all of each terminal's: a verdict
    depends on the terminal's other uploads.
    """
    if not summaries.num_rows:
        return pa.RecordBatch.from_pylist([], schema=SCHEMA)
    columns = _columns(summaries)
    numbers = columns.numbers
    ruling = rule_duplicates(
        columns.message,
        numbers["received_ms"],
        columns.source_rank,
        numbers["filled"],
        numbers["content"],
    )
    offset = np.zeros(len(columns.terminal), np.int64)
    source = np.full(len(offset), DEVICE, np.int8)
    flags = np.zeros(len(offset), np.int64)
    counted = np.flatnonzero(ruling.counts)
    order = columns.sorted(
        counted,
        numbers["seq"],
        numbers["boot_count"],
        numbers["received_ms"],
        columns.terminal,
    )
    clocks = judge_clocks(
        Times(
            columns.terminal[order],
            *(numbers[n][order] for n in ("received_ms", "latest_ms", "boot_count", "uptime_s")),
        ),
        rules.clock,
    )
    offset[order], source[order], flags[order] = clocks.offset_ms, clocks.source, clocks.flags
    event = np.where(source == FALLBACK, numbers["received_ms"], numbers["latest_ms"] - offset)
    ignition = _judge_reports(summaries, columns, order, event, vehicle_of, flags, rules)
    original = ruling.original
    offset, source = offset[original], source[original]
    flags = flags[original] | ruling.flags
    exceptional = ~ruling.counts | ~ruling.shows | (source != DEVICE) | (flags != 0)
    rows = np.flatnonzero(exceptional)
    rows = rows[np.argsort(columns.source_rank[rows], kind="stable")]
    chosen = summaries.select(["object", "line"]).take(pa.array(rows))
    state = ignition[original][rows]
    arrays = [
        *(single(column) for column in chosen.columns),
        pa.array(ruling.counts[rows]),
        pa.array(ruling.shows[rows]),
        pa.array(offset[rows]),
        pa.array(source[rows]),
        pa.array(numbers["received_ms"][original][rows]),
        pa.array(flags[rows]),
        pa.array(state == 1, mask=state < 0),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _columns(summaries: pa.Table) -> _Columns:
    numbers = {}
    for name in ("received_ms", "latest_ms", "boot_count", "uptime_s", "seq", "filled", "line"):
        numbers[name] = filled_int64(summaries[name], -1)
    numbers["content"] = np.asarray(single(summaries["content"]))
    objects = ranks(summaries["object"])
    order = np.lexsort((numbers["line"], objects))
    source_rank = np.empty(len(order), np.int64)
    source_rank[order] = np.arange(len(order))
    message, by_text = identities(summaries["message_id"])
    return _Columns(ranks(summaries["device_no"]), message, by_text, source_rank, numbers)


def _judge_reports(
    summaries: pa.Table,
    columns: _Columns,
    counted: np.ndarray,
    event: np.ndarray,
    vehicle_of: VehicleOf,
    flags: np.ndarray,
    rules: Rules,
) -> np.ndarray:
    """Set the flags of the rules over reports in `flags`. Returns the ignition state that counts,
    int8 of shape (uploads,): 1 on, 0 off, -1 as reported."""
    kinds = np.asarray(single(summaries["message_type"]))
    order = columns.sorted(counted, event, columns.terminal)
    terminal = columns.terminal
    boots = order[kinds[order] == MESSAGE_TYPES.index("boot")]
    flags[boots[reboot_loops(terminal[boots], event[boots], rules.terminal)]] |= BIT["REBOOT_LOOP"]
    logs = order[kinds[order] == MESSAGE_TYPES.index("log")]
    odometer = filled_int64(summaries["odometer_m"], -1)
    with_odometer = logs[odometer[logs] >= 0]
    device_nos = single(summaries["device_no"].take(pa.array(with_odometer)))
    vehicle = vehicle_of(device_nos, event[with_odometer])
    by_vehicle = np.lexsort((vehicle, terminal[with_odometer]))
    with_odometer, vehicle = with_odometer[by_vehicle], vehicle[by_vehicle]
    reset = odometer_resets(terminal[with_odometer], vehicle, odometer[with_odometer])
    flags[with_odometer[reset]] |= BIT["ODO_RESET"]
    ignition = filled_int64(summaries["ignition_on"], -1)
    switched = logs[ignition[logs] >= 0]
    chatter, state = ignition_chatter(
        terminal[switched], event[switched], ignition[switched] == 1, rules.terminal
    )
    flags[switched[chatter]] |= BIT["IGNITION_CHATTER"]
    counts = np.full(len(event), -1, np.int8)
    counts[switched[chatter]] = state[chatter]
    return counts
