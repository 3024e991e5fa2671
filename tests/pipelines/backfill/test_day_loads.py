"""BigQuery gets a backfill's rows by whole days: it ends with the lake's, whatever came between."""

from dataclasses import replace
from datetime import datetime

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from connectors.errors import DependencyFailed
from connectors.sinks.bigquery.client import RestClient
from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.bigquery.views import latest_name
from connectors.sinks.tables import MINUTES, TELEMETRY
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from pipelines.backfill import day_loads
from pipelines.backfill.day_loads import loads, put_by
from pipelines.backfill.phases import run
from pipelines.backfill.spec import BackfillSpec
from runners.backfill.request import checked, listing_of
from runners.config import Config
from runners.simulation.simulator import Scenario, simulate
from runners.stack.faults import rules as http
from runners.stack.faults.grpc_proxy import Answer, GrpcFaultProxy
from runners.stack.faults.http_proxy import FaultProxy
from tests.connectors.sinks.bigquery.rows import many
from tests.connectors.sinks.bigquery.test_faults import APPEND, Judge
from tests.connectors.sinks.bigquery.test_refused_days import NO_ROW, failed
from tests.pipelines.backfill.test_phases import Losing
from tests.support.lakes import backfill, hour_of, spec_of, subset

pytestmark = pytest.mark.servers

STORES = ("lake", "bigquery")
TYPES = ("log", "boot", "gps")
KEPT = [*(TELEMETRY[name] for name in TYPES), MINUTES]
NO_STREAMS = "127.0.0.1:1"
GPS, ADAS = TELEMETRY["gps"], TELEMETRY["adas"]


def settings_of(bigquery, dataset, **given):
    """Settings of a store that can be reached by load jobs alone."""
    reach = bigquery.settings | {"dataset": dataset, "storage_endpoint": NO_STREAMS}
    return BigQuerySettings(**reach | {"max_retries": 3, "retry_backoff_ms": 10} | given)


def config_of(store):
    return Config(sinks={"bigquery": store.model_dump()})


def columns_of(table):
    """What tells which rows are there, and of which copy of an upload."""
    place = ("offset", "vehicle_id", "device_no", "received_time", "n_uploads", "n_samples")
    wanted = (*table.key, table.time, *place)
    return [name for name in table.columns.names if name in wanted]


def in_lake(lake, table):
    """Those columns of all rows, sorted."""
    files = sorted(lake.glob(f"{table.name}/*/*/*.parquet"))
    found = [pq.ParquetFile(file).read().select(columns_of(table)) for file in files]
    return sorted_rows(table, pa.concat_tables(found))


def in_bigquery(store, table):
    """The same of the view."""
    rest = RestClient(store)
    columns = ", ".join(f"`{name}`" for name in columns_of(table))
    query = f"SELECT {columns} FROM {store.dataset}.{latest_name(table)}"
    rows = [dict(row) for row in rest.client.query(query, retry=None, job_retry=None).result()]
    rest.close()
    schema = pa.schema([table.columns.field(name) for name in columns_of(table)])
    return sorted_rows(table, pa.Table.from_pylist(rows, schema=schema))


def sorted_rows(table, rows):
    names = dict.fromkeys((*table.key, table.time))
    return rows.combine_chunks().sort_by([(name, "ascending") for name in names])


def differing(lake, store):
    """Tables of which lake and store do not hold the same rows."""
    pairs = {table.name: (in_lake(lake, table), in_bigquery(store, table)) for table in KEPT}
    return [name for name, (one, other) in pairs.items() if not one.num_rows or one != other]


def left(lake):
    """What waits for stores still."""
    return [path for path in (lake / "_state" / "days").rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """A few vehicles, some minutes before midnight and after, that misbehave in every way."""
    out = tmp_path_factory.mktemp("fleet")
    start = datetime.fromisoformat("2024-01-15T23:30+09:00")
    simulate(out, Scenario(4, 1, seed=11, misbehave=frozenset({"all"}), start=start, partitions=1))
    return out


@pytest.fixture(scope="module")
def parts(fleet, tmp_path_factory):
    """The archive cut in two: uploads of the second part have a say in those of the first."""
    place = tmp_path_factory.mktemp("parts")
    early = subset(fleet, place / "early", lambda name: hour_of(name) < "2024011600")
    late = subset(fleet, place / "late", lambda name: hour_of(name) >= "2024011600")
    return early, late


def days_of(lake):
    """Tables and dates that a lake has rows of."""
    return {
        (table.name, time.date())
        for table in KEPT
        for time in in_lake(lake, table)[table.time].to_pylist()
    }


def test_days_are_loaded_once_and_a_load_that_fails_is_made_up_for(
    fleet, parts, tmp_path, bigquery
):
    lake, store = tmp_path / "lake", settings_of(bigquery, "days")
    with FaultProxy(bigquery.address) as proxy:
        through = store.model_copy(update={"api_endpoint": proxy.url})
        into = {"config": config_of(through), "stores": STORES, "types": TYPES}
        load = proxy.rule("POST", "/upload/")
        backfill(fleet, lake, parts[1], **into)
        assert load.seen == len(days_of(lake))
        assert (differing(lake, store), left(lake)) == ([], [])
        refusal = {"error": {"code": 403, "message": "no", "errors": [{"reason": "accessDenied"}]}}
        proxy.rule("POST", "/upload/", http.Answer(403, orjson.dumps(refusal)))
        with pytest.raises(DependencyFailed, match="403 accessDenied"):
            backfill(fleet, lake, parts[0], **into)
        assert left(lake)
        proxy.clear()
        backfill(fleet, lake, parts[0], **into)
    assert (differing(lake, store), left(lake)) == ([], [])


def letters_in(lake):
    """The dead letters of rows that a store refused, by key of the row; none twice."""
    files = sorted(lake.glob("dead_letters/*/*/*+refused.parquet"))
    found = [one for file in files for one in pq.ParquetFile(file).read().to_pylist()]
    rows = [orjson.loads(one["raw_value"]) for one in found]
    by_key = {
        (row["message_id"], row["sample_idx"]): one for row, one in zip(rows, found, strict=True)
    }
    assert len(by_key) == len(found)
    return by_key


def test_rows_that_a_load_is_refused_for_are_dead_letters_until_the_store_takes_them(
    fleet, parts, tmp_path, bigquery
):
    lake = tmp_path / "lake"
    with FaultProxy(bigquery.address) as rest, GrpcFaultProxy(bigquery.storage) as storage:
        reach = {"api_endpoint": rest.url, "storage_endpoint": storage.address}
        store = settings_of(bigquery, "refusing", **reach)
        into = {"config": config_of(store), "stores": STORES, "types": ("gps",)}
        rest.rule("PUT", "/upload/", failed("invalid", NO_ROW))
        storage.rule(APPEND, Answer(Judge(column="sample_idx", bad=7)))
        for _ in range(2):
            backfill(fleet, lake, parts[1], **into)
            gps = in_lake(lake, GPS)
            at_fault = gps.filter(pc.equal(gps["sample_idx"], 7)).to_pylist()
            letters = letters_in(lake)
            assert {key: one["source_offset"] for key, one in letters.items()} == {
                (row["message_id"], 7): row["offset"] for row in at_fault
            }
            assert {(one["stage"], one["error_message"]) for one in letters.values()} == {
                ("SINK", "bigquery: no such fix")
            }
            assert in_bigquery(store, GPS) == gps.filter(pc.not_equal(gps["sample_idx"], 7))
            assert left(lake) == []
        rest.clear()
        backfill(fleet, lake, parts[1], **into)
        assert in_bigquery(store, GPS) == in_lake(lake, GPS)
    assert (letters_in(lake), left(lake)) == ({}, [])


def test_phases_whose_workers_are_lost_load_the_same_and_what_a_killed_run_left(
    fleet, parts, tmp_path, bigquery
):
    lake, store = tmp_path / "lake", settings_of(bigquery, "phased")
    given = (parts[1], fleet / "device_binding.csv", lake, config_of(store), STORES)
    job = replace(checked(spec_of(*given, types=TYPES)), spool=str(tmp_path / "spool"))
    listing = listing_of(job)
    put_by(job, job.stores[0], ADAS, many(ADAS, 3))
    run(job, listing.objects, Losing(job, lambda phase, number: number % 2 == 0))
    assert (differing(lake, store), left(lake)) == ([], [])
    assert in_bigquery(store, ADAS).num_rows == 3


@pytest.fixture
def job(tmp_path):
    """A job into a store that is never asked."""
    store = BigQuerySettings(project="test")
    return BackfillSpec("", "", str(tmp_path), "", stores=(store,))


def test_rows_that_are_put_again_wait_once(job):
    for _ in range(2):
        put_by(job, job.stores[0], GPS, many(GPS, 5))
    (one,) = loads(job)
    assert (one.table, one.day, len(one.files)) == (GPS.name, datetime(2026, 1, 5).date(), 1)


def test_a_day_that_is_too_large_for_one_load_is_cut_and_every_file_is_in_one(job, monkeypatch):
    for start in range(0, 50, 10):
        put_by(job, job.stores[0], GPS, many(GPS, 10, start=start))
    ((_, size), *_) = folder(job.lake, S3Settings()).names()
    monkeypatch.setattr(day_loads, "LOAD_BYTES", 3 * size // 2)
    found = [one.files for one in loads(job)]
    assert sorted(map(len, found)) == [1, 2, 2]
    assert len({name for files in found for name in files}) == 5
