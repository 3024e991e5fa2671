"""Minute partials as bytes are the same partials again."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.stream_model import each
from transforms.facts.packed_partials import KEYS, ROW, pack, parts, unpack
from transforms.facts.vehicle_minutes import PARTIALS

EDGES = {
    pa.int32(): (0, -1, (1 << 31) - 1, -(1 << 31)),
    pa.int64(): (0, -1, (1 << 63) - 1, -(1 << 63)),
    pa.float32(): (0.0, -1.5, 1e30),
    pa.float64(): (0.0, -1.5, 1e300, float("inf")),
}


def values(chance: random.Random, kind: pa.DataType, count: int) -> list:
    if pa.types.is_string(kind):
        return [f"k{chance.randrange(9)}" for _ in range(count)]
    if pa.types.is_timestamp(kind):
        return [chance.randrange(1 << 42) for _ in range(count)]
    return [chance.choice(EDGES[kind]) for _ in range(count)]


@st.composite
def partials(draw):
    """Partials with numbers at their limits, now and then a slice of more. Of each field all are
    null, or some, or none."""
    rows, start = draw(st.integers(0, 5)), draw(st.integers(0, 2))
    chance = random.Random(draw(st.integers(0, 1 << 32)))
    columns = []
    for field in PARTIALS:
        column = values(chance, field.type, rows + start)
        if field.nullable:
            often = chance.choice((0, 0.5, 1))
            column = [None if chance.random() < often else value for value in column]
        columns.append(pa.array(column, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=PARTIALS).slice(start, rows)


def keys_of(batch):
    return {name: batch.column(name) for name in KEYS}


@settings(deadline=None)
@given(partials())
def test_partials_are_unpacked_as_they_were_packed(batch):
    packed = pack(batch)
    assert {len(one) for one in packed.to_pylist()} <= {ROW.itemsize}
    assert unpack(packed, keys_of(batch)).equals(pa.Table.from_batches([batch]))


@settings(deadline=None)
@given(partials(), st.integers(0, 3))
def test_packed_partials_may_be_sliced(batch, start):
    start = min(start, batch.num_rows)
    part = batch.slice(start)
    table = unpack(pack(batch).slice(start), keys_of(part))
    assert table.equals(pa.Table.from_batches([part]))


@settings(deadline=None)
@given(partials())
def test_parts_of_an_upload_are_its_partials_one_after_another(batch):
    ids = pa.array(["other", *(f"k{n}" for n in range(9)), "k0"])
    expected = {name: [] for name in ids.to_pylist()}
    rows = zip(*(batch.column(n).to_pylist() for n in ("message_id", "vehicle_id")), strict=True)
    minutes = batch.column("minute").cast(pa.int64()).to_pylist()
    for (name, vehicle), minute, packed in zip(rows, minutes, pack(batch).to_pylist(), strict=True):
        expected[name].append((minute, vehicle, packed))
    found = [list(each(one)) for one in parts(batch, ids).to_pylist()]
    assert found == [*(expected[name] for name in ids.to_pylist()[:-1]), []]


def test_partials_of_another_width_are_refused():
    other = pa.array([bytes(ROW.itemsize - 1)], pa.binary())
    keys = {name: pa.nulls(1, PARTIALS.field(name).type) for name in KEYS}
    with pytest.raises(ValueError, match=f"{ROW.itemsize - 1} bytes, expected {ROW.itemsize}"):
        unpack(other, keys)


def test_every_number_has_a_bit_of_its_own():
    assert len(PARTIALS) - len(KEYS) <= 8 * ROW["present"].itemsize
