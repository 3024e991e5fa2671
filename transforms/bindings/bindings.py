"""Stage 7, bind: which vehicle a terminal sat in, as of event time (M21, M22).

A `Bindings` is one immutable snapshot. It keeps, for each terminal, the instants at which its
vehicle changes; a lookup is a hash and a binary search in numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.model.arrow_numpy import filled_int64, single

SCHEMA = pa.schema(
    [
        pa.field("device_no", pa.string(), nullable=False),
        pa.field("vehicle_id", pa.string(), nullable=False),
        pa.field("valid_from", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("valid_to", pa.timestamp("ms", tz="UTC")),
        pa.field("binding_version", pa.int64(), nullable=False),
    ]
)
STATUS = ("BOUND", "UNBOUND", "AMBIGUOUS")
UNBOUND, AMBIGUOUS = -1, -2
FOREVER = np.iinfo(np.int64).max
_CHUNK = 1_000_000
_TEXTS = 100_000


@dataclass(frozen=True)
class Bindings:
    """Terminals sorted by hash; terminal i has changes `first[i]` to `first[i + 1]`, each from
    `change_ms` on: vehicle code (UNBOUND, AMBIGUOUS or an index into `vehicles`) and version."""

    names: np.ndarray
    hashes: np.ndarray
    first: np.ndarray
    change_ms: np.ndarray
    vehicle: np.ndarray
    version: np.ndarray
    vehicles: pa.Array

    @property
    def terminals(self) -> int:
        """How many terminals have a binding."""
        return len(self.names)

    @classmethod
    def from_table(cls, table: pa.Table) -> Bindings:
        """A snapshot of rows of `SCHEMA`, in any order. Rows that end before they begin are
        left out; of rows with the same terminal and valid_from the highest version stands."""
        table = table.select(SCHEMA.names).cast(SCHEMA)
        device = single(table["device_no"].dictionary_encode())
        vehicle = single(table["vehicle_id"].dictionary_encode())
        names, hashes, rank = _ranked(device.dictionary)
        rows = _Rows(
            rank[np.asarray(device.indices)],
            filled_int64(single(table["valid_from"]), 0),
            filled_int64(single(table["valid_to"]), FOREVER),
            np.asarray(vehicle.indices),
            filled_int64(single(table["binding_version"]), 0),
        )
        vehicles = vehicle.dictionary
        del table, device, vehicle, rank
        counts, start, owner, version = _changes_in_parts(rows, len(names))
        first = np.append(0, np.cumsum(counts))
        return cls(names, hashes, first, start, owner, version, vehicles)

    def find(self, device_no: pa.Array) -> np.ndarray:
        """int64 of shape (rows,): the index of each terminal in `names`, -1 for an unknown one."""
        if not len(self.names) or not len(device_no):
            return np.full(len(device_no), -1, np.int64)
        encoded = device_no.dictionary_encode()
        wanted = _fixed(encoded.dictionary)
        hashes = _hash(wanted)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        known = (self.hashes[at] == hashes) & (self.names[at] == wanted)
        return np.asarray(np.where(known, at, -1)[np.asarray(encoded.indices)])

    def known(self, texts: Sequence[str]) -> list[bool]:
        """For each device_no, whether it has any binding."""
        return [bool(hit) for hit in self.find(pa.array(texts, pa.string())) >= 0]

    def change_at(self, terminal: np.ndarray, event_ms: np.ndarray) -> np.ndarray:
        """int64 of shape (rows,): index of the change in force at `event_ms` (epoch ms), -1 for
        none; `terminal` are indices from `find`."""
        low = np.where(terminal >= 0, self.first[terminal], 0)
        high = np.where(terminal >= 0, self.first[terminal + 1], 0)
        base = low.copy()
        while True:
            open_ = low < high
            if not open_.any():
                break
            middle = (low + high) // 2
            passed = open_ & (self.change_ms[np.where(open_, middle, 0)] <= event_ms)
            low = np.where(passed, middle + 1, low)
            high = np.where(open_ & ~passed, middle, high)
        return np.where(low > base, low - 1, -1)

    def vehicle_at(self, device_no: pa.Array, event_ms: np.ndarray) -> np.ndarray:
        """int64 of shape (rows,): vehicle code as of `event_ms` (epoch ms): an index into
        `vehicles`, UNBOUND or AMBIGUOUS."""
        change = self.change_at(self.find(device_no), event_ms)
        return self.vehicle_of(change)

    def vehicle_of(self, change: np.ndarray) -> np.ndarray:
        """int64 of shape (rows,): vehicle codes of changes; UNBOUND for change -1."""
        if not len(self.vehicle):
            return np.full(len(change), UNBOUND, np.int64)
        return np.where(change >= 0, self.vehicle[change], UNBOUND)

    def version_of(self, change: np.ndarray) -> np.ndarray:
        """int64 of shape (rows,): binding versions of changes; 0 for change -1."""
        if not len(self.version):
            return np.zeros(len(change), np.int64)
        return np.where(change >= 0, self.version[change], 0)


@dataclass(frozen=True)
class _Rows:
    device: np.ndarray
    start: np.ndarray
    end: np.ndarray
    vehicle: np.ndarray
    version: np.ndarray

    def take(self, at: np.ndarray) -> _Rows:
        return _Rows(
            *(c[at] for c in (self.device, self.start, self.end, self.vehicle, self.version))
        )

    def where(self, kept: np.ndarray) -> _Rows:
        return self if kept.all() else self.take(np.flatnonzero(kept))

    def standing(self) -> _Rows:
        """The rows that apply, sorted by terminal and start: without superseded versions and empty
        intervals."""
        order = np.lexsort((self.vehicle, self.version, self.start, self.device))
        rows = self.take(order)
        last = np.ones(len(order), bool)
        last[:-1] = (rows.device[1:] != rows.device[:-1]) | (rows.start[1:] != rows.start[:-1])
        rows = rows.where(last)
        return rows.where(rows.end > rows.start)


def _ranked(device_no: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names and hashes sorted by hash, and for each input name its index among them."""
    names = _fixed(device_no)
    hashes = _hash(names)
    by_hash = np.argsort(hashes, kind="stable")
    names, hashes = names[by_hash], hashes[by_hash]
    if (hashes[1:] == hashes[:-1]).any():
        raise RuntimeError("two terminals share a hash; report this as a bug")
    rank = np.empty(len(by_hash), np.int64)
    rank[by_hash] = np.arange(len(by_hash))
    return names, hashes, rank


def _changes_in_parts(rows: _Rows, terminals: int) -> list[np.ndarray]:
    """How many changes each terminal has, and of all changes start, vehicle and version. A part of
    the terminals at a time, because sorting needs several times the memory of what it sorts."""
    parts = []
    for low in range(0, max(terminals, 1), _CHUNK):
        high = min(low + _CHUNK, terminals)
        part = rows.where((rows.device >= low) & (rows.device < high))
        changes = _changes(part.standing())
        counts = np.bincount(changes.device - low, minlength=high - low)
        parts.append((counts, changes.start, changes.vehicle.astype(np.int64), changes.version))
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _changes(rows: _Rows) -> _Rows:
    """Instants at which a terminal's vehicle changes (`end` is unused)."""
    next_same = np.zeros(len(rows.device), bool)
    next_same[:-1] = rows.device[1:] == rows.device[:-1]
    next_start = np.append(rows.start[1:], FOREVER)
    latest_end = np.where(next_same, rows.end > next_start, False)
    overlapping = np.isin(rows.device, np.unique(rows.device[latest_end]))
    plain = rows.where(~overlapping)
    gaps = ~overlapping & (rows.end != FOREVER) & ~(next_same & (rows.end == next_start))
    ended = rows.take(np.flatnonzero(gaps))
    parts = [
        plain,
        _Rows(
            ended.device,
            ended.end,
            ended.end,
            np.full(len(ended.device), UNBOUND),
            np.zeros(len(ended.device), np.int64),
        ),
    ]
    if overlapping.any():
        parts.append(_sweep(rows.take(np.flatnonzero(overlapping))))
    merged = _Rows(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("device", "start", "end", "vehicle", "version")
        )
    )
    return merged.take(np.lexsort((merged.start, merged.device)))


def _sweep(rows: _Rows) -> _Rows:
    """Changes of terminals whose bindings overlap: AMBIGUOUS while there are two vehicles."""
    changes: list[tuple[int, int, int, int]] = []
    starts = np.flatnonzero(np.diff(rows.device, prepend=-1))
    for begin, end in zip(starts, np.append(starts[1:], len(rows.device)), strict=True):
        part = slice(int(begin), int(end))
        instants = np.unique(np.concatenate([rows.start[part], rows.end[part]]))
        for instant in instants[instants != FOREVER]:
            active = (rows.start[part] <= instant) & (instant < rows.end[part])
            vehicles = np.unique(rows.vehicle[part][active])
            code = UNBOUND if not len(vehicles) else AMBIGUOUS
            version = 0
            if len(vehicles) == 1:
                code = int(vehicles[0])
                version = int(rows.version[part][active].max())
            changes.append((int(rows.device[begin]), int(instant), code, version))
    device, instant, vehicle, versions = np.array(changes, np.int64).T
    return _Rows(device, instant, instant, vehicle, versions)


def _fixed(texts: pa.Array) -> np.ndarray:
    """Bytes of shape (rows,), dtype S: numpy pads and compares them natively."""
    if not len(texts):
        return np.empty(0, "S8")
    width = -(-max(int(pc.max(pc.binary_length(texts)).as_py()), 1) // 8) * 8
    fixed = np.zeros((len(texts), width), np.uint8)
    for low in range(0, len(texts), _TEXTS):
        part = texts.slice(low, _TEXTS)
        ends = np.frombuffer(part.buffers()[1], np.int32)[part.offset :][: len(part) + 1]
        lengths = np.diff(ends)
        row = np.repeat(np.arange(low, low + len(part)), lengths)
        column = np.arange(ends[0], ends[-1]) - np.repeat(ends[:-1], lengths)
        data = np.frombuffer(part.buffers()[2] or b"", np.uint8)
        fixed[row, column] = data[ends[0] : ends[-1]]
    return fixed.view(f"S{width}").ravel()


def _hash(names: np.ndarray) -> np.ndarray:
    """uint64 of shape (rows,); trailing zero bytes do not count, so the width does not matter."""
    words = (
        names.view(np.uint64).reshape(len(names), -1) if len(names) else np.empty((0, 1), np.uint64)
    )
    mixed = np.zeros(len(names), np.uint64)
    for position in range(words.shape[1]):
        word = words[:, position]
        salt = np.uint64((0x9E3779B97F4A7C15 * (2 * position + 1)) & 0xFFFFFFFFFFFFFFFF)
        spread = word * salt
        spread ^= spread >> np.uint64(31)
        spread *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= np.where(word == 0, np.uint64(0), spread ^ (spread >> np.uint64(29)))
    return mixed
