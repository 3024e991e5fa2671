"""Arrow to Avro: the same bytes as a plain encoder writes, whatever the values."""

import io
import json

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import AVRO_DIRECTORY, load
from schemas.arrow import record_schema
from tests.support.uploads import datum, parsed
from transforms.encode.avro import LARGEST, encode_records, joined

few = settings(
    deadline=None, max_examples=20, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip

NAMES = sorted(file.stem for file in AVRO_DIRECTORY.glob("*.avsc"))
TIMES = st.integers(-62_135_596_800_000, 253_402_300_799_999)
PLAIN = {
    "string": st.text(max_size=20),
    "bytes": st.binary(max_size=20),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, -1, 63, 64, -64, -65]),
    "long": st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 8191, 8192, -(2**63), 2**56]),
    "float": st.floats(width=32) | st.sampled_from([float("nan"), float("inf"), -0.0]),
    "double": st.floats() | st.sampled_from([float("nan"), float("-inf"), -0.0]),
}


def any_of(avro):
    """Values of an Avro type, times as epoch ms."""
    if isinstance(avro, list):
        return st.one_of(*(st.none() if branch == "null" else any_of(branch) for branch in avro))
    if not isinstance(avro, dict):
        return PLAIN[avro]
    if avro.get("logicalType") == "timestamp-millis":
        return TIMES
    if avro["type"] == "enum":
        return st.sampled_from(avro["symbols"])
    if avro["type"] == "array":
        return st.lists(any_of(avro["items"]), max_size=4)
    if avro["type"] == "map":
        return st.dictionaries(st.text(max_size=8), any_of(avro["values"]), max_size=3)
    return any_record(avro)


def any_record(avro):
    """Records of a record schema as dicts."""
    return st.fixed_dictionaries({f["name"]: any_of(f["type"]) for f in avro["fields"]})


def arrow_row(record):
    """A record as pyarrow wants it: maps as pairs."""
    return {k: list(v.items()) if isinstance(v, dict) and k != "vehicle" else v
            for k, v in record.items()}  # fmt: skip


def table_of(name, records):
    return pa.RecordBatch.from_pylist([arrow_row(r) for r in records], schema=record_schema(name))


@pytest.mark.parametrize("name", NAMES)
def test_any_records_of_any_of_our_schemas_have_the_bytes_of_a_plain_encoder(name):
    avro = load(name).avro

    @few
    @given(st.lists(any_record(avro), max_size=5), st.integers(0, 2))
    def same(records, skipped):
        encoded = encode_records(table_of(name, records).slice(skipped), avro)
        encoded.validate(full=True)
        assert encoded.to_pylist() == [datum(avro, r) for r in records[skipped:]]

    same()


def encoded(columns, *fields):
    """Columns encoded as a record of (name, type[, default]), then read by a plain decoder."""
    keys = ("name", "type", "default")
    named = [dict(zip(keys, field, strict=False)) for field in fields]
    avro = {"type": "record", "name": "Row", "fields": named}
    bodies = encode_records(pa.RecordBatch.from_pydict(columns), avro).to_pylist()
    return [fastavro.schemaless_reader(io.BytesIO(body), parsed(avro)) for body in bodies]


FIX = {"type": "enum", "name": "Fix", "symbols": ["UNKNOWN", "NONE"], "default": "UNKNOWN"}
FLOATS = {"type": "array", "items": "float"}


@pytest.mark.parametrize(
    ("values", "kind", "default", "read"),
    [
        (["a", None], "string", "NONE", ["a", "NONE"]),
        ([1, None], "long", 7, [1, 7]),
        (["NONE", None], FIX, "UNKNOWN", ["NONE", "UNKNOWN"]),
        ([True, None], "boolean", False, [True, False]),
        ([[1.5], None], FLOATS, [], [[1.5], []]),
    ],
)
def test_a_null_where_none_may_be_becomes_the_default(values, kind, default, read):
    assert [row["v"] for row in encoded({"v": values}, ("v", kind, default))] == read


def test_a_null_where_none_may_be_and_no_default_is_named_with_its_row():
    with pytest.raises(ValueError, match=r"Row\.v: row 1 is null"):
        encoded({"v": ["a", None]}, ("v", "string"))


def test_a_null_in_a_sample_becomes_the_default_of_the_samples_field():
    items = {"type": "record", "name": "S", "fields": [{"name": "fix", "type": FIX,
             "default": "NONE"}, {"name": "sp", "type": ["null", "int"]}]}  # fmt: skip
    kind = pa.list_(pa.struct([("fix", pa.string()), ("sp", pa.int32())]))
    samples = pa.array([[{"fix": None, "sp": 1}], [], [{"fix": "??", "sp": None}]], kind)
    [one, two, three] = encoded({"v": samples}, ("v", {"type": "array", "items": items}))
    assert one["v"] == [{"fix": "NONE", "sp": 1}]
    assert two["v"] == []
    assert three["v"] == [{"fix": "UNKNOWN", "sp": None}]


def test_a_null_in_a_list_is_left_out():
    lists = pa.array([[1.0, None, 2.0], [None], None, [3.0]], pa.list_(pa.float32()))
    rows = encoded({"v": lists, "n": [1, 2, 3, 4]}, ("v", FLOATS), ("n", "long"))
    assert [row["v"] for row in rows] == [[1.0, 2.0], [], [], [3.0]]
    assert [row["n"] for row in rows] == [1, 2, 3, 4]


def test_an_unknown_symbol_becomes_the_enums_default():
    assert encoded({"v": ["NONE", "SIX_D"]}, ("v", FIX)) == [{"v": "NONE"}, {"v": "UNKNOWN"}]


def test_an_unknown_symbol_of_an_enum_without_default_is_named():
    bare = {key: value for key, value in FIX.items() if key != "default"}
    with pytest.raises(ValueError, match="no symbol 'SIX_D'"):
        encoded({"v": ["SIX_D"]}, ("v", bare))


def test_a_null_map_is_an_empty_one_also_where_rows_are_encoded_one_by_one():
    maps = pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string()))
    kind = {"type": "map", "values": "string"}
    assert [r["v"] for r in encoded({"v": maps}, ("v", kind))] == [{"k": "v"}, {}]
    rows = encoded({"v": maps, "raw": [b"\xff", b""]}, ("v", kind), ("raw", "bytes"))
    assert rows == [{"v": {"k": "v"}, "raw": b"\xff"}, {"v": {}, "raw": b""}]


def test_columns_are_found_by_name_and_absent_ones_are_null():
    rows = encoded({"b": [2], "a": [1]}, ("a", "long"), ("b", "long"), ("c", ["null", "int"]))
    assert rows == [{"a": 1, "b": 2, "c": None}]


def test_texts_in_dictionaries_are_texts():
    column = pa.array(["x", "y", "x"]).dictionary_encode()
    assert [row["v"] for row in encoded({"v": column}, ("v", "string"))] == ["x", "y", "x"]


def test_a_batch_that_is_cut_into_several_native_calls_loses_nothing(monkeypatch):
    monkeypatch.setattr("transforms.encode.avro._BYTES_A_CALL", 64)
    rows = encoded({"v": [str(n) for n in range(100)]}, ("v", "string"))
    assert [row["v"] for row in rows] == [str(n) for n in range(100)]


def huge(size):
    """A binary array of two rows and `size` bytes that are never touched."""
    offsets = pa.py_buffer(np.array([0, size // 2, size], np.int32))
    data = pa.py_buffer(np.zeros(size, np.uint8))
    return pa.Array.from_buffers(pa.binary(), 2, [None, offsets, data])


def test_more_bytes_than_an_array_holds_are_refused_with_what_to_do():
    with pytest.raises(OverflowError, match="encode fewer rows"):
        joined(pa.scalar(b"12345", pa.binary()), huge(LARGEST - 9))


def test_no_rows_are_no_messages():
    assert encode_records(table_of("message_gps", []), load("message_gps").avro).to_pylist() == []


def test_our_schemas_are_read_as_they_were_written():
    """The encoder is given the schema files with all their attributes; none changes a byte."""
    bare = json.loads(json.dumps(load("vehicle_minute").avro))
    for field in bare["fields"]:
        for key in ("doc", "merge", "at"):
            field.pop(key, None)
    record = {f["name"]: f.get("default", 1) for f in bare["fields"]} | {"vehicle_id": "CAR-1"}
    one = encode_records(table_of("vehicle_minute", [record]), load("vehicle_minute").avro)
    assert one.to_pylist() == [datum(bare, record)]
