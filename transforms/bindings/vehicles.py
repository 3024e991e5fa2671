"""The vehicles of a bindings snapshot, and their Avro bytes for messages of vehicle topics.

The schema `vehicle_<type>` is `message_<type>` with four fields more at its end. So a message of a
vehicle topic is the datum of the upload followed by those four fields. They depend on the binding
alone, so they are encoded once for each binding and kept.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.bindings.bindings import AMBIGUOUS, STATUS, UNBOUND, Bindings
from transforms.model.arrow_numpy import single

SCHEMA = pa.schema(
    [
        pa.field("vehicle_id", pa.string(), nullable=False),
        pa.field("plate_no", pa.string(), nullable=False),
        pa.field("model_name", pa.string(), nullable=False),
        pa.field("fuel_type", pa.string(), nullable=False),
        pa.field("region_code", pa.string()),
        pa.field("zone_id", pa.string()),
        pa.field("fleet_status", pa.string()),
    ]
)
ABSENT = {"plate_no": "", "model_name": "", "fuel_type": "UNKNOWN"}
KEPT_BYTES = 128 << 20
_NULL, _VALUE = b"\x00", b"\x02"
_FIRST_ATTEMPT = b"\x00"
_NOTHING = pa.scalar(b"", pa.binary())


class Vehicles:
    """The vehicles of one bindings snapshot, as of `version_ms` (epoch ms, 0 where unknown).

    Row i of `rows` (schema `SCHEMA`) is vehicle i of `bindings.vehicles`; vehicles that the vehicle
    table does not have get the values of `ABSENT`.
    """

    def __init__(self, bindings: Bindings, table: pa.Table, version_ms: int) -> None:
        """`table` is the vehicle table: columns of `SCHEMA`, one row a vehicle, in any order."""
        self.bindings = bindings
        self.version_ms = version_ms
        self.rows = _aligned(bindings.vehicles, table)
        self._lock = threading.Lock()
        self._forget()

    @classmethod
    def unknown(cls, bindings: Bindings) -> Vehicles:
        """The vehicles of `bindings` where there is no vehicle table: only their ids are known."""
        return cls(bindings, SCHEMA.empty_table(), 0)

    def encoded(self, change: np.ndarray) -> pa.BinaryArray:
        """Avro bytes of the fields binding_status, vehicle, enriched_time and enrich_attempt, of
        shape (uploads,), for indices from `bindings.change_at` (-1: unbound). Safe in several
        threads.

        Both times in them are `version_ms`, so that a replay gives the same bytes.
        """
        with self._lock:
            slot = self._slot[change]
            if not slot.all():
                if self._kept.bytes > KEPT_BYTES:
                    self._forget()
                    slot = self._slot[change]
                new = np.unique(change[slot == 0])
                self._slot[new] = np.arange(len(new)) + (self._kept.count + 1)
                self._kept.append(self._encode(new))
                slot = self._slot[change]
            kept = self._kept.array()
        return kept.take(pa.array(slot - 1))

    def _forget(self) -> None:
        """Drop all kept bytes. The last slot is that of change -1."""
        self._slot = np.zeros(len(self.bindings.vehicle) + 1, np.int32)
        self._kept = _Kept()

    def _encode(self, change: np.ndarray) -> pa.BinaryArray:
        code = self.bindings.vehicle_of(change)
        time = _varint(self.version_ms)
        none = {
            status: _text(STATUS[-status]) + _NULL + time + _FIRST_ATTEMPT
            for status in (UNBOUND, AMBIGUOUS)
        }
        bound = np.flatnonzero(code >= 0)
        texts = pa.concat_arrays(
            [
                self._encode_bound(code[bound], self.bindings.version_of(change[bound])),
                pa.array([none[UNBOUND], none[AMBIGUOUS]], pa.binary()),
            ]
        )
        at = np.where(code == UNBOUND, len(bound), len(bound) + 1)
        at[bound] = np.arange(len(bound))
        return texts.take(pa.array(at))

    def _encode_bound(self, code: np.ndarray, version: np.ndarray) -> pa.BinaryArray:
        time = _varint(self.version_ms)
        head = pa.scalar(_text(STATUS[0]) + _VALUE, pa.binary())
        tail = pa.scalar(time + time + _FIRST_ATTEMPT, pa.binary())
        rows = self.rows.take(pa.array(code))
        parts = [part for field in SCHEMA for part in _parts(single(rows[field.name]), field)]
        return pc.binary_join_element_wise(head, *parts, _varints(version), tail, _NOTHING)


class _Kept:
    """Bytes kept so far, in buffers that double; an array of them is a view that stays valid."""

    def __init__(self) -> None:
        self.count = 0
        self._offsets = np.zeros(1024, np.int32)
        self._data = np.empty(1 << 16, np.uint8)

    @property
    def bytes(self) -> int:
        return int(self._offsets[self.count])

    def append(self, texts: pa.BinaryArray) -> None:
        count, used = self.count + len(texts), self.bytes
        offsets = np.frombuffer(texts.buffers()[1], np.int32)
        offsets = offsets[texts.offset : texts.offset + len(texts) + 1]
        size = int(offsets[-1] - offsets[0])
        self._offsets = _roomy(self._offsets, self.count + 1, count + 1)
        self._data = _roomy(self._data, used, used + size)
        self._offsets[self.count + 1 : count + 1] = offsets[1:] + (used - offsets[0])
        data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
        self._data[used : used + size] = data[offsets[0] : offsets[-1]]
        self.count = count

    def array(self) -> pa.BinaryArray:
        buffers = [None, pa.py_buffer(self._offsets), pa.py_buffer(self._data)]
        return pa.Array.from_buffers(pa.binary(), self.count, buffers)


def _roomy(values: np.ndarray, used: int, wanted: int) -> np.ndarray:
    if wanted <= len(values):
        return values
    larger = np.empty(max(wanted, 2 * len(values)), values.dtype)
    larger[:used] = values[:used]
    return larger


def _aligned(vehicle_id: pa.Array, table: pa.Table) -> pa.Table:
    """Rows of `table` in the order of `vehicle_id`; for ids that it lacks, the values of
    `ABSENT`."""
    known = table.select(SCHEMA.names).cast(SCHEMA)
    at = pc.index_in(vehicle_id, value_set=single(known["vehicle_id"]))
    columns = {"vehicle_id": vehicle_id}
    for name in SCHEMA.names[1:]:
        column = single(known[name]).take(at)
        columns[name] = column.fill_null(ABSENT[name]) if name in ABSENT else column
    return pa.table(columns, SCHEMA)


def _parts(texts: pa.Array, field: pa.Field) -> Iterator[pa.Array]:
    """A text column in Avro, as arrays to be joined row by row."""
    if not field.nullable:
        yield from (_varints(_lengths(texts)), texts.cast(pa.binary()))
        return
    present = np.asarray(texts.is_valid())
    branch = pa.array([_NULL, _VALUE], pa.binary()).take(pa.array(present.astype(np.int8)))
    length = pc.if_else(pa.array(present), _varints(_lengths(texts)), _NOTHING)
    yield from (branch, length, texts.cast(pa.binary()).fill_null(b""))


def _lengths(texts: pa.Array) -> np.ndarray:
    return np.asarray(pc.binary_length(texts).fill_null(0)).astype(np.int64)


def _varints(numbers: np.ndarray) -> pa.BinaryArray:
    """int64 numbers as Avro writes a long: zigzag, seven bits a byte, lowest first."""
    zigzag = ((numbers << 1) ^ (numbers >> 63)).astype(np.uint64)
    shifts = np.arange(0, 70, 7, dtype=np.uint64)
    groups = zigzag[:, None] >> shifts
    more = np.zeros(groups.shape, bool)
    more[:, :-1] = groups[:, 1:] != 0
    used = np.ones(groups.shape, bool)
    used[:, 1:] = more[:, :-1]
    octets = ((groups & np.uint64(0x7F)) | (more.astype(np.uint64) << np.uint64(7))).astype(
        np.uint8
    )
    offsets = np.zeros(len(numbers) + 1, np.int32)
    np.cumsum(used.sum(axis=1), out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(octets[used])]
    return pa.Array.from_buffers(pa.binary(), len(numbers), buffers)


def _varint(number: int) -> bytes:
    return bytes(_varints(np.array([number], np.int64))[0].as_py())


def _text(text: str) -> bytes:
    return _varint(len(text.encode())) + text.encode()
