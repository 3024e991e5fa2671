"""Bindings files as fleets really write them."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.operations_db.bindings_file import BadBindings, load_bindings
from connectors.storage.settings import S3Settings

HEAD = "device_no,vehicle_id,valid_from,valid_to,binding_version,msisdn\n"
ROW = "0102,V1,2024-01-15T00:00:00+09:00,,1,01012345678\n"
NOON = datetime(2024, 1, 15, 3, tzinfo=UTC)


def load(tmp_path, content, name="bindings.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_bindings(str(path), S3Settings())


def vehicle(terminals, device_no, moment=NOON):
    bindings = terminals.bindings
    found = bindings.find(pa.array([device_no]))
    change = bindings.change_at(found, pa.array([moment]).cast(pa.timestamp("ms", "UTC"))
                                .cast(pa.int64()).to_numpy())  # fmt: skip
    code = int(bindings.vehicle_of(change)[0])
    return bindings.vehicles[code].as_py() if code >= 0 else None


def test_leading_zeros_are_kept(tmp_path):
    terminals = load(tmp_path, HEAD + ROW)
    assert vehicle(terminals, "0102") == "V1"
    assert vehicle(terminals, "102") is None


def test_vehicles_and_phones_that_look_like_numbers_stay_texts(tmp_path):
    terminals = load(tmp_path, HEAD + ROW.replace("V1", "007"))
    assert vehicle(terminals, "0102") == "007"


@pytest.mark.parametrize("spelling", [" 0102 ", "0102\t"], ids=["blanks around", "a tab behind"])
def test_blanks_around_a_terminal_are_trimmed(tmp_path, spelling):
    assert vehicle(load(tmp_path, HEAD + ROW.replace("0102", spelling, 1)), "0102") == "V1"


def test_terminals_are_upper_case(tmp_path):
    assert vehicle(load(tmp_path, HEAD + ROW.replace("0102", "ab12", 1)), "AB12") == "V1"


def test_a_byte_order_mark_and_crlf_are_no_part_of_it(tmp_path):
    text = b"\xef\xbb\xbf" + (HEAD + ROW).replace("\n", "\r\n").encode()
    assert vehicle(load(tmp_path, text), "0102") == "V1"


def test_identical_rows_are_one(tmp_path):
    assert vehicle(load(tmp_path, HEAD + ROW + ROW), "0102") == "V1"


def test_columns_come_in_any_order_and_others_are_ignored(tmp_path):
    text = "note,valid_to,valid_from,vehicle_id,device_no\nx,,2024-01-15T00:00:00Z,V1,0102\n"
    assert vehicle(load(tmp_path, text), "0102") == "V1"


def test_parquet_is_as_csv(tmp_path):
    table = pa.table(
        {
            "device_no": pa.array(["0102", "0102"]).dictionary_encode(),
            "vehicle_id": ["V1", "V2"],
            "valid_from": pa.array([NOON.replace(hour=0), NOON], pa.timestamp("us", "UTC")),
            "valid_to": pa.array([NOON, None], pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(table, tmp_path / "bindings.parquet")
    terminals = load_bindings(str(tmp_path / "bindings.parquet"), S3Settings())
    assert vehicle(terminals, "0102") == "V2"
    assert vehicle(terminals, "0102", NOON.replace(hour=2)) == "V1"


def test_a_numeric_version_column_of_any_kind(tmp_path):
    assert vehicle(load(tmp_path, HEAD + ROW.replace(",1,", ",,")), "0102") == "V1"


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", ["bindings.csv", "cannot be read"]),
        (HEAD, ["bindings.csv", "no binding"]),
        ("device_no,valid_from,valid_to\n1,,\n", ["bindings.csv", "vehicle_id"]),
        (HEAD + ROW.replace("+09:00", ""), ["valid_from", "2024-01-15T00:00:00", "row 1", "zone"]),
        (HEAD + ROW + ROW.replace("0102", " "), ["device_no", "row 2", "empty"]),
        (HEAD + ROW.replace("V1", " "), ["vehicle_id", "row 1", "empty"]),
        (HEAD + ROW.replace("2024-01-15T00:00:00+09:00", ""), ["valid_from", "row 1", "empty"]),
        (HEAD + ROW.replace("01-15T", "13-45T"), ["valid_from", "2024-13-45"]),
        (HEAD + ROW.replace(",1,", ",one,"), ["binding_version", "one"]),
        (HEAD + "0102,V1\n", ["bindings.csv", "cannot be read"]),
        (HEAD.encode() + ROW.replace("V1", "V\xff").encode("latin-1"), ["bindings.csv", "UTF"]),
    ],
    ids=["empty file", "no rows", "a column is missing", "no zone", "no terminal", "no vehicle",
         "no start", "no date", "version is no number", "too few columns", "not UTF-8"],
)  # fmt: skip
def test_a_wrong_file_is_refused_by_name_column_and_value(tmp_path, content, words):
    with pytest.raises(BadBindings) as refused:
        load(tmp_path, content)
    assert [word for word in words if word not in str(refused.value)] == []


def test_an_interval_that_ends_before_it_begins_binds_nothing(tmp_path):
    terminals = load(tmp_path, HEAD + ROW.replace(",,1", ",2024-01-14T00:00:00+09:00,1"))
    assert vehicle(terminals, "0102") is None


def test_a_parquet_file_that_is_none(tmp_path):
    with pytest.raises(BadBindings, match="cannot be read"):
        load(tmp_path, b"not parquet", "bindings.parquet")


def test_a_file_that_is_not_there_and_a_folder(tmp_path):
    with pytest.raises(BadBindings, match="does not exist"):
        load_bindings(str(tmp_path / "none.csv"), S3Settings())
    with pytest.raises(BadBindings, match="is a folder"):
        load_bindings(str(tmp_path), S3Settings())
