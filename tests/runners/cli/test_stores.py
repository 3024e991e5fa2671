"""`odograph stores` counts what it can."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from connectors.errors import DependencyFailed
from runners.cli.stores import stores


def test_a_store_that_cannot_be_counted_is_named_and_keeps_no_other_back(tmp_path):
    hour = tmp_path / "lake" / "telemetry_log" / "date=2025-10-09" / "hour=08"
    day = tmp_path / "archive" / "topics" / "message-log" / "2025" / "10" / "09" / "08"
    for place in (hour, day):
        place.mkdir(parents=True)
    pq.write_table(pa.table({"value": [1, 2, 3]}), hour / "one.parquet")
    (day / "message-log+0+0.parquet").write_bytes(b"half of it")
    sinks = {name: {"folder": str(tmp_path / name)} for name in ("archive", "lake")}
    settings = tmp_path / "odograph.yaml"
    settings.write_text(yaml.safe_dump({"sinks": sinks}))
    told = CliRunner().invoke(stores, ["--config", str(settings)])
    assert "telemetry_log" in told.output
    with pytest.raises(DependencyFailed, match=r"^archive: .*message-log\+0\+0.parquet"):
        raise told.exception
