"""What stores hold is counted where it lies."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.files import folder
from connectors.holdings import archive_records, lake_rows
from connectors.settings import S3Settings


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
