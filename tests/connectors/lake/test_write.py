"""Facts on their way into hour folders: as many hours as there are."""

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from connectors.lake.write import MOST_OPEN, TableWriter
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings

HOUR_MS = 3_600_000
HOURS, ROWS = 300, 3


def rows(start):
    """One row an hour, and when each happened."""
    hours = np.arange(HOURS)
    return pa.record_batch({"n": pa.array(hours + start)}), hours * HOUR_MS


def test_rows_of_any_number_of_hours_are_written_with_few_files_open(tmp_path):
    with TableWriter(folder(str(tmp_path), S3Settings()), "one.parquet", "UTC") as writer:
        before = psutil.Process().num_fds()
        for turn in range(ROWS):
            writer.write("facts", *rows(turn * HOURS))
        assert psutil.Process().num_fds() <= before + MOST_OPEN
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet")]
    assert sorted(files) == writer.files and len(files) == len(writer.hours) == HOURS
    assert writer.size == sum((tmp_path / name).stat().st_size for name in files)
    found = ds.dataset(tmp_path, partitioning="hive").to_table().column("n").to_pylist()
    assert sorted(found) == list(range(HOURS * ROWS))


def test_nothing_of_many_hours_appears_where_writing_fails(tmp_path):
    place = folder(str(tmp_path), S3Settings())
    with pytest.raises(KeyError), TableWriter(place, "one.parquet", "UTC") as writer:
        writer.write("facts", *rows(0))
        raise KeyError("half-way")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
