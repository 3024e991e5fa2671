"""Small objects become few large ones, and no reader of a lake sees a row twice or misses one."""

import signal
import subprocess
import sys
import uuid
from datetime import UTC, date, datetime

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.lake import compact as lake_compact
from connectors.lake.compact import compact
from connectors.lake.merged_objects import let_go
from connectors.lake.read import duckdb_source, parts
from connectors.lake.write import parquet_writer
from connectors.storage import folder as storage
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from runners.stack.servers.s3 import REGION
from schemas.arrow import telemetry_schema
from tests.repository.files import ROOT

pytestmark = pytest.mark.servers

TABLE = "telemetry_log"
HOUR = f"{TABLE}/date=2024-01-15/hour=12"
BEFORE, SETTLED = date(2024, 2, 1), datetime(2024, 2, 1)
SCHEMA = telemetry_schema("log")


def lake_name(block, arrival="2024011512"):
    return f"message-log+0+{arrival}-{block:010d}-parquet.parquet"


def object_of(block, arrival="2024011512"):
    folders = f"{arrival[:4]}/{arrival[4:6]}/{arrival[6:8]}/{arrival[8:]}"
    return f"message-log/{folders}/message-log+0+{block:010d}.parquet"


def rows_of(block, count=5, text="a", arrival="2024011512", schema=SCHEMA, **more):
    when = datetime(2024, 1, 15, 3, tzinfo=UTC)
    row = {
        "device_no": "0001", "sample_idx": 0, "event_time": when, "time_source": "DEVICE",
        "quality_flags": [], "binding_status": "UNBOUND", "topic": "message-log", "partition": 0,
        "object": object_of(block, arrival), "device_gen": "STS", "received_time": when,
        "firmware_version": text, **more,
    }  # fmt: skip
    rows = [
        {**row, "message_id": f"{block}-{n}", "offset": block + n, "line": n} for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def write(lake, block, count=5, text="a", arrival="2024011512", **more):
    table = rows_of(block, count, text, arrival, **more)
    name = f"{HOUR}/{lake_name(block, arrival)}"
    with lake.whole(name) as stream, parquet_writer(stream, table.schema) as writer:
        writer.write_table(table)


@pytest.fixture
def local(tmp_path):
    return folder(str(tmp_path / "lake"), S3Settings())


@pytest.fixture
def lake(local):
    for block in range(0, 60, 5):
        write(local, block)
    return local


def run(lake, least_bytes=1 << 20, settled=SETTLED):
    return compact(lake, BEFORE, settled, least_bytes)


def seen(lake, columns="message_id, firmware_version"):
    """What a reader that asks which objects there are finds."""
    query = f"select {columns} from {duckdb_source(lake, TABLE)}"
    return sorted(duckdb.execute(query).fetchall())


def plainly(lake, columns="message_id, firmware_version"):
    """What a reader of all objects finds."""
    query = f"select {columns} from read_parquet(?)"
    return sorted(duckdb.execute(query, [f"{lake.path}/{TABLE}/*/*/*.parquet"]).fetchall())


def expected(texts=None):
    texts = texts or {}
    return sorted(
        (f"{block}-{n}", texts.get(block, "a")) for block in range(0, 60, 5) for n in range(5)
    )


def names(lake):
    return [name.rpartition("/")[2] for name, _ in lake.child(HOUR).names()]


def test_small_objects_become_one(lake):
    done = run(lake)
    assert names(lake) == ["merged-0000.parquet"]
    assert (done.hours, done.objects) == (1, 12)
    assert seen(lake) == plainly(lake) == expected()


def test_compacting_again_changes_nothing(lake):
    run(lake)
    before = lake.version(f"{HOUR}/merged-0000.parquet")
    assert run(lake).hours == 0
    assert lake.version(f"{HOUR}/merged-0000.parquet") == before


def test_columns_come_back_as_they_were(lake):
    before = seen(lake, "*")
    run(lake)
    assert seen(lake, "*") == before
    file = pq.ParquetFile(lake.at(f"{HOUR}/merged-0000.parquet"))
    assert file.schema_arrow.remove_metadata().equals(SCHEMA)


def test_merged_objects_are_cut_where_they_are_large_enough(lake):
    size = lake.child(HOUR).names()[0][1]
    run(lake, least_bytes=4 * size)
    assert names(lake) == [f"merged-000{n}.parquet" for n in range(3)]
    assert seen(lake) == plainly(lake) == expected()


def test_large_objects_and_those_of_other_days_are_left(lake):
    size = lake.child(HOUR).names()[0][1]
    assert run(lake, least_bytes=size).hours == 0
    assert compact(lake, date(2024, 1, 15), SETTLED, 1 << 20).hours == 0


def test_what_arrived_lately_is_left(lake):
    write(lake, 900, arrival="2024013123")
    write(lake, 905, arrival="2024020101")
    run(lake, settled=datetime(2024, 1, 31, 23))
    assert names(lake)[0] == "merged-0000.parquet" and len(names(lake)) == 3
    run(lake, settled=datetime(2024, 2, 1))
    assert len(names(lake)) == 2


def test_few_new_objects_wait_until_they_are_worth_it(lake, monkeypatch):
    monkeypatch.setattr(lake_compact, "SHARE", 0)
    run(lake)
    counts = []
    for block in range(100, 140, 5):
        write(lake, block)
        run(lake)
        counts.append(len(names(lake)))
    assert counts == [2, 3, 4, 5, 6, 7, 8, 1]


def test_a_block_written_again_counts_at_once_and_after_the_next_run(lake):
    run(lake)
    write(lake, 10, text="b")
    assert seen(lake) == expected({10: "b"})
    assert len(plainly(lake)) == 65
    run(lake)
    assert seen(lake) == plainly(lake) == expected({10: "b"})


def test_a_block_that_lost_its_rows_is_gone_at_once_and_after_the_next_run(lake):
    run(lake)
    let_go(lake, f"{HOUR}/{lake_name(10)}")
    left = [row for row in expected() if not row[0].startswith("10-")]
    assert seen(lake) == left
    run(lake)
    assert seen(lake) == plainly(lake) == left


def test_a_block_of_an_hour_without_merged_objects_is_just_deleted(lake):
    let_go(lake, f"{HOUR}/{lake_name(10)}")
    assert len(names(lake)) == 11


def test_objects_of_older_and_newer_versions_are_merged(lake):
    old = pa.schema([field for field in SCHEMA if field.name not in ("odometer_m", "extras")])
    write(lake, 100, schema=old)
    new = pa.schema([*SCHEMA, pa.field("answer", pa.int64())])
    write(lake, 105, schema=new, answer=42)
    before = seen(lake, "* exclude (answer), answer")
    run(lake)
    assert seen(lake, "* exclude (answer), answer") == before
    assert seen(lake, "message_id") == plainly(lake, "message_id")
    assert seen(lake, "max(answer)") == [(42,)]


def test_a_source_written_again_meanwhile_is_kept(lake, monkeypatch):
    replace = type(lake).replace

    def slow(self, name, data, version):
        done = replace(self, name, data, version)
        write(self, 10, text="b")
        return done

    monkeypatch.setattr(type(lake), "replace", slow)
    run(lake)
    monkeypatch.undo()
    assert seen(lake) == expected({10: "b"})
    run(lake)
    assert seen(lake) == plainly(lake) == expected({10: "b"})


def test_a_source_written_between_the_look_at_it_and_its_deletion_stays(lake, monkeypatch):
    delete, told = type(lake).delete_version, iter([True])

    def slow(self, name, version):
        if name.endswith(lake_name(10)) and next(told, False):
            write(self, 10, text="b")
        delete(self, name, version)

    monkeypatch.setattr(type(lake), "delete_version", slow)
    run(lake)
    monkeypatch.undo()
    assert seen(lake) == expected({10: "b"})


def test_a_source_deleted_meanwhile_does_not_come_back(lake, monkeypatch):
    replace = type(lake).replace

    def slow(self, name, data, version):
        done = replace(self, name, data, version)
        self.delete(f"{HOUR}/{lake_name(10)}")
        return done

    monkeypatch.setattr(type(lake), "replace", slow)
    run(lake)
    monkeypatch.undo()
    assert seen(lake) == [row for row in expected() if not row[0].startswith("10-")]


def test_of_two_runs_at_once_the_later_leaves_the_hour(lake, monkeypatch):
    run(lake)
    for block in range(100, 160, 5):
        write(lake, block)
    merged = lake_compact._merged

    def other_was_there(*args):
        lake.write(f"{HOUR}/merged-0000.parquet", lake.read(f"{HOUR}/merged-0000.parquet"))
        return merged(*args)

    monkeypatch.setattr(lake_compact, "_merged", other_was_there)
    assert run(lake).busy == [HOUR]
    assert len(names(lake)) == 13


STEPS = ("before", "replaced", "deleted 1", "deleted 6", "deleted 12")


@pytest.fixture(params=["local", "bucket"])
def mixed(request, local, monkeypatch):
    """A lake of which all blocks were written again after they were merged, two without rows."""
    lake = local
    if request.param == "bucket":
        server = request.getfixturevalue("s3")
        server.make_bucket("merged")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(server.credentials_file))
        settings = S3Settings(endpoint=server.address, region=REGION)
        storage._s3.cache_clear()  # an earlier test may have reached the server in another way
        lake = folder(f"s3://merged/{uuid.uuid4().hex}", settings)
    for block in range(0, 60, 5):
        write(lake, block)
    run(lake)
    for block in range(0, 50, 5):
        write(lake, block, text="b")
    for block in (50, 55):
        let_go(lake, f"{HOUR}/{lake_name(block)}")
    return lake


AFTER = sorted((f"{block}-{n}", "b") for block in range(0, 50, 5) for n in range(5))


@pytest.mark.parametrize("step", STEPS)
def test_a_reader_finds_each_row_once_wherever_a_run_is_killed(mixed, step):
    killed(mixed, step)
    assert told(mixed) == AFTER
    run(mixed)
    assert names(mixed) == ["merged-0000.parquet"]
    assert told(mixed) == AFTER


def killed(lake, step):
    """Compact in a process that kills itself at a step."""
    program = [sys.executable, "-m", "tests.support.killed_compaction", lake.uri, step]
    given = [lake.settings.endpoint or "", lake.settings.region or ""]
    ended = subprocess.run(
        [*program, *given], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def told(lake):
    """Rows of all parts, read with Arrow."""
    found = []
    for part in parts(lake, TABLE):
        table = pq.read_table(pa.BufferReader(lake.read(part.name)))
        rows = zip(
            *(table[n].to_pylist() for n in ("object", "message_id", "firmware_version")),
            strict=True,
        )
        found += [row[1:] for row in rows if row[0] not in part.without]
    return sorted(found)
