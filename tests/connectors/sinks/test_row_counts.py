"""What stores hold is counted where it lies."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.errors import DependencyFailed
from connectors.sinks.row_counts import archive_records, lake_rows
from connectors.storage.folder import Folder, folder
from connectors.storage.settings import S3Settings


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"value": list(range(rows))}), path)


def test_an_archive_is_counted_by_topic(tmp_path):
    for hour, rows in (("09", 3), ("10", 4)):
        place = tmp_path / "topics" / "message-log" / "2025" / "10" / "09" / hour
        write(place / "message-log+0+0.parquet", rows)
    write(tmp_path / "topics/message-gps/2025/10/09/09/message-gps+0+0.parquet", 5)
    (tmp_path / "topics/message-gps/2025/10/09/09/message-gps+0+0.json.gz").write_bytes(b"old")
    counted = archive_records(folder(str(tmp_path), S3Settings()))
    assert counted == {"message-log": 7, "message-gps": 5}


def test_a_lake_is_counted_by_table(tmp_path):
    for hour in ("hour=08", "hour=09"):
        write(tmp_path / "telemetry_log" / "date=2025-10-09" / hour / "one.parquet", 2)
    write(tmp_path / "_state" / "register" / "one.parquet", 9)
    assert lake_rows(folder(str(tmp_path), S3Settings())) == {"telemetry_log": 4}


def test_an_object_that_cannot_be_read_is_named(tmp_path):
    place = tmp_path / "topics" / "message-log" / "2025" / "10" / "09" / "09"
    write(place / "message-log+0+0.parquet", 3)
    (place / "message-log+0+20000.parquet").write_bytes(b"half of it")
    with pytest.raises(DependencyFailed, match=r"message-log\+0\+20000.parquet is no Parquet"):
        archive_records(folder(str(tmp_path), S3Settings()))


def test_an_object_that_goes_while_it_is_counted_is_a_failure_that_may_be_tried_again(
    tmp_path, monkeypatch
):
    gone = [("message-log/2025/10/09/09/message-log+0+0.parquet", 9)]
    monkeypatch.setattr(Folder, "names", lambda self: gone)
    with pytest.raises(DependencyFailed, match="could not read"):
        archive_records(folder(str(tmp_path), S3Settings()))
