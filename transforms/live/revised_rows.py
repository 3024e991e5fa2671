"""Telemetry rows of a stream: at once under each upload's own verdict, and again where its
terminal's other uploads say otherwise. What `revised_minutes` does for minutes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from transforms.bindings.bindings import Bindings
from transforms.decode.decoder import Decoder
from transforms.facts.telemetry import Prepared, event_times, prepare, settle
from transforms.live.first_verdict import QUIET, Look, decode_by_topic
from transforms.live.lone_verdict import lone_verdicts
from transforms.live.revised_minutes import ReadAgain, judged, records
from transforms.live.written_versions import CLEAR, WrittenVersions
from transforms.model.arrow_numpy import codes, filled_int64
from transforms.model.thresholds import Rules
from transforms.model.uploads import Uploads
from transforms.terminal_rules.clock import CORRECTED, DEVICE
from transforms.terminal_rules.verdicts import Verdicts

NEVER_LATE = int(np.iinfo(np.int64).max)
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
KEYS = pa.schema(
    [
        pa.field("message_id", pa.string(), nullable=False),
        pa.field("sample_idx", pa.int32(), nullable=False),
        pa.field("event_time", pa.timestamp("ms", tz="UTC"), nullable=False),
    ]
)


@dataclass(frozen=True)
class Rows:
    """`telemetry` (schema `telemetry.rows_schema`, `line` being the record's offset) are
    rows of one message type. `gone` (`KEYS`) are keys of rows that may lie on the UTC date of
    `event_time` and no longer stand there."""

    message_type: str
    telemetry: pa.RecordBatch
    gone: pa.RecordBatch


NOTHING_GONE = pa.RecordBatch.from_pylist([], schema=KEYS)


def first_rows(look: Look) -> Rows:
    """Rows of uploads looked at by themselves; of copies in one batch the first by receive time
    and place."""
    telemetry = look.settled.telemetry
    kept = _first_copies(look.summaries, look.prepared.uploads.head)
    if not kept.all():
        lines = np.asarray(look.summaries.column("line"))[kept]
        telemetry = telemetry.filter(pa.array(np.isin(telemetry.column("line"), lines)))
    return Rows(look.settled.message_type, _placed(telemetry), NOTHING_GONE)


def _first_copies(summaries: pa.RecordBatch, head: pa.RecordBatch) -> np.ndarray:
    message = codes(summaries.column("message_id"))
    names = ("offset", "partition", "received_time")
    keys = [filled_int64(head.column(name), 0) for name in names]
    order = np.lexsort((*keys, message))
    kept = np.zeros(len(message), bool)
    kept[order[np.diff(message[order], prepend=-1) != 0]] = True
    return kept


def _placed(telemetry: pa.RecordBatch) -> pa.RecordBatch:
    at = telemetry.schema.get_field_index("line")
    return telemetry.set_column(at, telemetry.schema.field(at), telemetry.column("offset"))


def revised_rows(
    dossiers: pa.RecordBatch,
    written: WrittenVersions,
    read_again: ReadAgain,
    decoder: Decoder,
    bindings: Bindings,
    rules: Rules,
) -> list[Rows]:
    """Rows of the uploads in whole dossiers (`revised_minutes.DOSSIER`) that are thought of
    otherwise than was `written`, which from now on counts these as written."""
    rows, verdicts = judged(dossiers, bindings, rules, NEVER_LATE)
    ruling = _Ruling.of(rows, verdicts, rules)
    wanted = ruling.copies_of(_unwritten(rows, ruling, written))
    if not len(wanted):
        return []
    good, _ = decode_by_topic(records(rows, wanted, read_again), decoder)
    return [_revised(uploads, ruling, bindings, rules) for uploads in good]


@dataclass(frozen=True)
class _Ruling:
    """Verdicts on the rows of dossiers, and what stands without them: `own` is the verdict each
    had by itself, `clear` says that both are the same. Arrays of shape (rows,)."""

    table: pa.RecordBatch
    verdicts: Verdicts
    own: Verdicts
    latest_ms: np.ndarray
    message: np.ndarray
    copied: np.ndarray
    clear: np.ndarray

    @classmethod
    def of(cls, rows: pa.RecordBatch, table: pa.RecordBatch, rules: Rules) -> _Ruling:
        verdicts, own = Verdicts.from_table(table), lone_verdicts(rows, rules)
        latest = filled_int64(rows.column("latest_ms"), 0)
        message = codes(rows.column("message_id"))
        copied = (np.bincount(message) > 1)[message]
        same = verdicts.source == own.source
        same &= verdicts.offset_ms == own.offset_ms
        same &= verdicts.flags == own.flags
        return cls(table, verdicts, own, latest, message, copied, same & ~copied)

    @property
    def moved(self) -> np.ndarray:
        """Rows whose samples may have been dated otherwise before."""
        return np.asarray(self.own.suspect() | self.copied | (self.verdicts.source != DEVICE))

    def copies_of(self, chosen: np.ndarray) -> np.ndarray:
        """The chosen rows and all copies of their uploads, ascending."""
        return np.flatnonzero(np.isin(self.message, self.message[chosen]))

    def otherwise(self) -> list[pa.RecordBatch]:
        """Verdicts under which rows may have been written before: each upload's own, and as if
        its newest sample was taken when it was received, which is about what neighbours make of a
        clock that is off."""
        received = self.own.received_ms
        off = np.where(self.moved, self.latest_ms - received, 0)
        corrected = np.full(len(off), CORRECTED, np.int8)
        offsets_and_sources = [(self.own.offset_ms, self.own.source), (off, corrected)]
        others = [
            replace(self.verdicts, offset_ms=offset_ms, source=source, received_ms=received)
            for offset_ms, source in offsets_and_sources
        ]
        places = self.table.column("object"), self.table.column("line")
        return [one.to_table(*places) for one in others]


def _unwritten(rows: pa.RecordBatch, ruling: _Ruling, written: WrittenVersions) -> np.ndarray:
    """Rows to be shown that must be written: one a message."""
    shown = np.flatnonzero(ruling.verdicts.shows)
    taken = rows.take(pa.array(shown))
    not_quiet = np.asarray(taken.column("kind")) != QUIET
    marks = _marks(ruling, taken, shown)
    changed = written.changed(
        taken.column("device_no"),
        taken.column("message_id"),
        np.where(ruling.clear[shown], CLEAR, marks),
        np.asarray(taken.column("timestamp")),
        not_quiet,
    )
    return np.asarray(shown[changed])


def _marks(ruling: _Ruling, taken: pa.RecordBatch, shown: np.ndarray) -> np.ndarray:
    """int64 of shape (shown,), not 0: different for what comes to different rows."""
    mixed = np.zeros(len(shown), np.uint64)
    for name in ("offset_ms", "source", "received_ms", "flags"):
        mixed = _mix(mixed, getattr(ruling.verdicts, name)[shown].astype(np.int64))
    for name in ("partition", "offset"):
        mixed = _mix(mixed, filled_int64(taken.column(name), 0))
    return np.asarray((mixed | np.uint64(1)).view(np.int64))


def _mix(mixed: np.ndarray, values: np.ndarray) -> np.ndarray:
    mixed = (mixed ^ values.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray(mixed ^ (mixed >> np.uint64(29)))


def _revised(uploads: Uploads, ruling: _Ruling, bindings: Bindings, rules: Rules) -> Rows:
    prepared = prepare(uploads, rules)
    settled = settle(prepared, ruling.table, bindings, rules)
    gone = _gone(prepared, ruling)
    return Rows(uploads.message_type, _placed(settled.telemetry), gone)


def _gone(prepared: Prepared, ruling: _Ruling) -> pa.RecordBatch:
    """Keys that may lie on another date than where their row is now, or have none now."""
    uploads = prepared.uploads
    line = np.asarray(uploads.head.column("line"))[uploads.upload]
    moved = np.flatnonzero(ruling.moved[line])
    line, upload, sample = line[moved], uploads.upload[moved], prepared.sample_idx[moved]
    message, shows = ruling.message[line], ruling.verdicts.shows[line]
    tables = [ruling.table, *ruling.otherwise()] if len(moved) else []
    times = [event_times(prepared, one)[moved] for one in tables]
    none = np.empty(0, np.int64)
    found, of = [none], [none]
    for day in (_day(time + slack) for time in times for slack in (-HOUR_MS, 0, HOUR_MS)):
        at = np.flatnonzero(~shows | (day != _day(times[0])))
        found.append(_key(message[at], sample[at], day[at]))
        of.append(upload[at])
    key, first = np.unique(np.concatenate(found), return_index=True)
    if not len(key):
        return NOTHING_GONE
    stands = _key(message[shows], sample[shows], _day(times[0])[shows])
    gone = ~np.isin(key, stands)
    at = pa.array(np.concatenate(of)[first[gone]])
    idx = (key[gone] >> _DAY_BITS) & (1 << _SAMPLE_BITS) - 1
    day = (key[gone] & (1 << _DAY_BITS) - 1) - _DAY_ZERO
    columns = [
        uploads.head.column("message_id").take(at),
        pa.array(idx.astype(np.int32)),
        pa.array(day * DAY_MS, pa.timestamp("ms", tz="UTC")),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=KEYS)


def _day(time_ms: np.ndarray) -> np.ndarray:
    return np.asarray(time_ms // DAY_MS)


_SAMPLE_BITS, _DAY_BITS, _DAY_ZERO = 17, 25, 1 << 24


def _key(message: np.ndarray, sample: np.ndarray, day: np.ndarray) -> np.ndarray:
    """A message, a sample and a day in one number."""
    upper = message << _SAMPLE_BITS | sample
    return np.asarray(upper << _DAY_BITS | day + _DAY_ZERO)
