"""Verdicts: all rules that look beyond one upload, over the upload summaries of some terminals.

Only exceptions get a verdict. An upload without one counts, is shown, has a good clock and no flag
from these rules; so the verdicts of a fleet without faults take no space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from schemas import MESSAGE_TYPES
from transforms.model.arrow_numpy import filled_int64, identities, ranks, single, sort_rows
from transforms.model.quality_flags import BIT
from transforms.model.thresholds import Rules
from transforms.terminal_rules.clock import DEVICE, FALLBACK, ClockVerdict, Times, judge_clocks
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

PACKED = np.dtype(
    [
        ("counts", "u1"),
        ("shows", "u1"),
        ("source", "i1"),
        ("ignition_counts", "i1"),
        ("offset_ms", "<i8"),
        ("received_ms", "<i8"),
        ("flags", "<i8"),
    ]
)
"""A verdict as bytes, without its place."""


@dataclass(frozen=True)
class Verdicts:
    """Verdicts on uploads (`SCHEMA` without object and line), arrays of shape (uploads,): `counts`
    and `shows` bool, `source` and `ignition_counts` int8 (-1: as reported), the others int64."""

    counts: np.ndarray
    shows: np.ndarray
    offset_ms: np.ndarray
    source: np.ndarray
    received_ms: np.ndarray
    flags: np.ndarray
    ignition_counts: np.ndarray

    @classmethod
    def of_clocks(cls, clocks: ClockVerdict, received_ms: np.ndarray) -> Verdicts:
        """Uploads that count and are shown, with these verdicts on their clocks."""
        counts, ignition = np.ones(len(received_ms), bool), np.full(len(received_ms), -1, np.int8)
        offset_ms, source, flags = clocks.offset_ms, clocks.source, clocks.flags
        return cls(counts, counts.copy(), offset_ms, source, received_ms, flags, ignition)

    @classmethod
    def unremarkable(cls, received_ms: np.ndarray) -> Verdicts:
        """What holds of uploads that `judge` gives no verdict on."""
        zeros = np.zeros(len(received_ms), np.int64)
        clocks = ClockVerdict(zeros, zeros.astype(np.int8), zeros.copy())
        return cls.of_clocks(clocks, received_ms.copy())

    @classmethod
    def from_table(cls, verdicts: pa.RecordBatch) -> Verdicts:
        """Of `SCHEMA`, in its order."""
        columns = {}
        for field in fields(cls):
            column = verdicts.column(field.name)
            if field.name == "ignition_counts":
                columns[field.name] = filled_int64(column, -1).astype(np.int8)
            else:
                columns[field.name] = column.to_numpy(zero_copy_only=False)
        return cls(**columns)

    @classmethod
    def from_packed(cls, packed: pa.BinaryArray) -> Verdicts:
        """Of bytes, each of `PACKED`."""
        rows = np.frombuffer(b"".join(packed.to_pylist()), PACKED)
        columns = {name: np.ascontiguousarray(rows[name]) for name in PACKED.names or ()}
        return cls(**columns | {name: columns[name] == 1 for name in ("counts", "shows")})

    def to_table(self, objects: pa.Array, lines: pa.Array) -> pa.RecordBatch:
        """As `SCHEMA`, of uploads on these lines of archive objects."""
        arrays = {
            "object": objects,
            "line": lines,
            **{name: pa.array(values) for name, values in vars(self).items()},
            "ignition_counts": pa.array(self.ignition_counts == 1, mask=self.ignition_counts < 0),
        }
        return pa.RecordBatch.from_arrays([arrays[name] for name in SCHEMA.names], schema=SCHEMA)

    def to_packed(self) -> pa.BinaryArray:
        """As bytes of `PACKED`."""
        rows = np.zeros(len(self.counts), PACKED)
        for name, values in vars(self).items():
            rows[name] = values
        offsets = np.arange(len(rows) + 1, dtype=np.int32) * PACKED.itemsize
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(rows.tobytes())]
        return pa.Array.from_buffers(pa.binary(), len(rows), buffers)

    def take(self, rows: np.ndarray) -> Verdicts:
        """Those of some uploads."""
        return Verdicts(**{name: values[rows] for name, values in vars(self).items()})

    def replaced(self, rows: np.ndarray, others: Verdicts) -> Verdicts:
        """The same with other verdicts on some uploads, int64 of shape (others,)."""
        columns = {name: values.copy() for name, values in vars(self).items()}
        for name, values in columns.items():
            values[rows] = getattr(others, name)
        return Verdicts(**columns)

    def differ(self, others: Verdicts) -> np.ndarray:
        """bool of shape (uploads,): which are not the same as the others."""
        differences = [values != getattr(others, name) for name, values in vars(self).items()]
        return np.asarray(np.logical_or.reduce(differences))

    def suspect(self) -> np.ndarray:
        """bool of shape (uploads,): the clock is not believed as it is, or there is a flag."""
        return np.asarray((self.source != DEVICE) | (self.flags != 0))

    def exceptional(self) -> np.ndarray:
        """bool of shape (uploads,): what a table of verdicts must hold."""
        return np.asarray(~self.counts | ~self.shows | self.suspect())

    def event_ms(self, latest_ms: np.ndarray) -> np.ndarray:
        """int64 of shape (uploads,): when the newest samples, at these device times, happened."""
        return np.where(self.source == FALLBACK, self.received_ms, latest_ms - self.offset_ms)


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
    verdicts = Verdicts(
        ruling.counts,
        ruling.shows,
        offset[original],
        source[original],
        numbers["received_ms"][original],
        flags[original] | ruling.flags,
        ignition[original],
    )
    rows = np.flatnonzero(verdicts.exceptional())
    rows = rows[np.argsort(columns.source_rank[rows], kind="stable")]
    places = summaries.select(["object", "line"]).take(pa.array(rows))
    return verdicts.take(rows).to_table(*(single(column) for column in places.columns))


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
