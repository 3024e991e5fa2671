"""What the Python side of a live job writes, it reads again as it was."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.live.flink.arrow_blocks import read_block, stage_output
from pipelines.live.kafka_records import pack_headers, unpack_headers
from schemas.layouts import layout

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
VALUES = {
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    pa.binary(): st.binary(max_size=9),
    pa.int64(): st.integers(-(1 << 63), (1 << 63) - 1),
    pa.int32(): st.integers(-(1 << 31), (1 << 31) - 1),
    pa.int8(): st.integers(-128, 127),
}


@st.composite
def batches(draw):
    """Batches of all kinds of columns, now and then a slice of a larger one."""
    kinds = st.tuples(st.sampled_from(list(VALUES)), st.booleans())
    fields = draw(st.lists(kinds, min_size=1, max_size=4))
    rows, start = draw(st.integers(0, 10)), draw(st.integers(0, 3))
    columns = []
    for kind, nullable in fields:
        values = st.none() | VALUES[kind] if nullable else VALUES[kind]
        column = draw(st.lists(values, min_size=rows + start, max_size=rows + start))
        columns.append(pa.array(column, kind))
    columns_of = pa.schema(
        [pa.field(f"c{i}", kind, nullable=null) for i, (kind, null) in enumerate(fields)]
    )
    return pa.RecordBatch.from_arrays(columns, schema=columns_of).slice(start, rows)


def sections(whole: bytes) -> list[tuple[int, bytes]]:
    """Numbers of outputs and their blocks, as `UnbatchRows` finds them."""
    found, at = [], 0
    while at < len(whole):
        number, size = np.frombuffer(whole, np.int32, 2, at).tolist()
        found.append((number, whole[at + 8 : at + 8 + size]))
        at += 8 + size
    return found


@UNHURRIED
@given(st.lists(st.tuples(st.integers(0, 3), batches()), max_size=3))
def test_batches_are_read_from_a_stage_output_as_they_were(outputs):
    filled = [(number, batch) for number, batch in outputs if batch.num_rows]
    found = sections(stage_output(outputs))
    assert [number for number, _ in found] == [number for number, _ in filled]
    for (_, block), (_, batch) in zip(found, filled, strict=True):
        again = read_block(block, batch.schema)
        again.validate(full=True)
        assert again.equals(batch)


@UNHURRIED
@given(batches())
def test_blocks_are_padded_to_eight_bytes(batch):
    assert len(stage_output([(0, batch)])) % 8 == 0


def test_a_block_of_no_rows_is_read():
    columns = layout("unit_due")
    empty = np.zeros(1, np.int64).tobytes() + bytes(24)
    assert read_block(empty, columns).num_rows == 0


def test_a_column_that_must_not_hold_nulls_is_named():
    columns = pa.schema([pa.field("version", pa.int64(), nullable=False)])
    batch = pa.RecordBatch.from_arrays([pa.array([1, None], pa.int64())], schema=columns)
    with pytest.raises(ValueError, match="column version"):
        stage_output([(0, batch)])


HEADERS = st.lists(st.tuples(VALUES[pa.string()], st.binary(max_size=9)))


@UNHURRIED
@given(HEADERS)
def test_packed_headers_are_unpacked_as_they_were(headers):
    assert unpack_headers(pack_headers(headers)) == headers


@UNHURRIED
@given(HEADERS)
def test_a_header_without_value_is_unpacked_as_none(headers):
    no_value = b"\x01\0\0\0x\xff\xff\xff\xff"
    packed = no_value + pack_headers(headers)
    assert unpack_headers(packed) == [("x", None), *headers]
