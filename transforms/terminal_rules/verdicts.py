"""All rules that look beyond one upload, over the register rows of some terminals.

Only exceptions are said: an upload without a verdict counts, is shown, has a good clock and no
flag from here. So a fleet that behaves costs nothing to carry.
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
from transforms.terminal_rules.upload_summary import SCHEMA as REGISTER

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
"""Verdict on one upload. `received_ms`: of the upload that counts, event time of a fallback;
`ignition_counts`: the debounced ignition state, null where the reported one counts."""

REGISTERED = pa.schema([pa.field("object", pa.string(), nullable=False), *REGISTER])

VehicleOf = Callable[[pa.Array, np.ndarray], np.ndarray]
"""Vehicle codes (int64, negative for none) for terminals and event times in ms."""


@dataclass(frozen=True)
class _Columns:
    """Register columns as numpy arrays of shape (uploads,)."""

    terminal: np.ndarray
    message: np.ndarray
    order: tuple[np.ndarray, ...]
    place: np.ndarray
    numbers: dict[str, np.ndarray]

    def sorted(self, rows: np.ndarray, *keys: np.ndarray) -> np.ndarray:
        """`rows` by the given keys (the last is the first to count), ties by message_id."""
        return sort_rows(rows, (self.place, *self.order, *keys))


def judge(registered: pa.Table, vehicle_of: VehicleOf, rules: Rules) -> pa.RecordBatch:
    """Verdicts (`SCHEMA`) over register rows with their object; any order in, sorted out."""
    if not registered.num_rows:
        return pa.RecordBatch.from_pylist([], schema=SCHEMA)
    columns = _columns(registered)
    numbers = columns.numbers
    ruling = rule_duplicates(
        columns.message,
        numbers["received_ms"],
        columns.place,
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
    ignition = _history(registered, columns, order, event, vehicle_of, flags, rules)
    original = ruling.original
    offset, source = offset[original], source[original]
    flags = flags[original] | ruling.flags
    exceptional = ~ruling.counts | ~ruling.shows | (source != DEVICE) | (flags != 0)
    rows = np.flatnonzero(exceptional)
    rows = rows[np.argsort(columns.place[rows], kind="stable")]
    chosen = registered.select(["object", "line"]).take(pa.array(rows))
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


def _columns(registered: pa.Table) -> _Columns:
    numbers = {}
    for name in ("received_ms", "latest_ms", "boot_count", "uptime_s", "seq", "filled", "line"):
        numbers[name] = filled_int64(registered[name], -1)
    numbers["content"] = np.asarray(single(registered["content"]))
    objects = ranks(registered["object"])
    order = np.lexsort((numbers["line"], objects))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    message, by_text = identities(registered["message_id"])
    return _Columns(ranks(registered["device_no"]), message, by_text, place, numbers)


def _history(
    registered: pa.Table,
    columns: _Columns,
    counted: np.ndarray,
    event: np.ndarray,
    vehicle_of: VehicleOf,
    flags: np.ndarray,
    rules: Rules,
) -> np.ndarray:
    """Set the flags of a terminal's history; int8 ignition state that counts, -1 as reported."""
    kinds = np.asarray(single(registered["message_type"]))
    order = columns.sorted(counted, event, columns.terminal)
    terminal = columns.terminal
    boots = order[kinds[order] == MESSAGE_TYPES.index("boot")]
    flags[boots[reboot_loops(terminal[boots], event[boots], rules.terminal)]] |= BIT["REBOOT_LOOP"]
    logs = order[kinds[order] == MESSAGE_TYPES.index("log")]
    odometer = filled_int64(registered["odometer_m"], -1)
    with_odometer = logs[odometer[logs] >= 0]
    device_nos = single(registered["device_no"].take(pa.array(with_odometer)))
    vehicle = vehicle_of(device_nos, event[with_odometer])
    by_vehicle = np.lexsort((vehicle, terminal[with_odometer]))
    with_odometer, vehicle = with_odometer[by_vehicle], vehicle[by_vehicle]
    reset = odometer_resets(terminal[with_odometer], vehicle, odometer[with_odometer])
    flags[with_odometer[reset]] |= BIT["ODO_RESET"]
    ignition = filled_int64(registered["ignition_on"], -1)
    switched = logs[ignition[logs] >= 0]
    chatter, state = ignition_chatter(
        terminal[switched], event[switched], ignition[switched] == 1, rules.terminal
    )
    flags[switched[chatter]] |= BIT["IGNITION_CHATTER"]
    counts = np.full(len(event), -1, np.int8)
    counts[switched[chatter]] = state[chatter]
    return counts
