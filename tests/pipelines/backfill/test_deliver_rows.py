"""Stores that a backfill writes to besides its lake end with the lake's rows: in whatever parts an
archive is read, and whoever had a row before."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from connectors.errors import BadArguments
from connectors.sinks.contract import Written
from connectors.sinks.refused_rows import refused
from connectors.sinks.tables import TABLES
from pipelines.backfill import deliver_rows
from runners.config import Config
from tests.support.lakes import backfill, hour_of, rows, subset
from transforms.model.dead_letters import DEAD_SCHEMA

pytestmark = pytest.mark.days

MIDNIGHT = datetime.fromisoformat("2024-01-16T00:00+09:00")
CONFIG = Config(sinks={"elasticsearch": {"hosts": ["http://nowhere:1"]}})
NONE = pa.RecordBatch.from_pylist([], schema=DEAD_SCHEMA)


@dataclass
class Book:
    """What every store promises, in memory: by key and date the highest revision counts, and of
    equal ones the first that came. Rows of `unwanted` tables are refused."""

    unwanted: tuple[str, ...] = ()
    pages: dict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))

    def prepare(self, tables):
        assert {table.name for table in tables} == TABLES.keys()

    def write(self, table, facts):
        assert facts.schema.equals(table.revised)
        facts.validate(full=True)
        if table.name in self.unwanted:
            return Written(0, 0, 0, refused("book", table, facts, ["no"] * facts.num_rows))
        self.pages[table.name].append(facts)
        return Written(facts.num_rows, 0, 0, NONE)

    def close(self):
        pass

    def taken(self, table):
        """All rows in the order in which they came."""
        return pa.concat_tables([table.revised.empty_table(), *self.pages[table.name]])


@pytest.fixture
def book(monkeypatch):
    store = Book()
    monkeypatch.setattr(deliver_rows, "_opened", {})
    monkeypatch.setattr(deliver_rows, "open_sink", lambda *_: store)
    return store


def into_both(fleet, lake, archive=None, **options):
    stores = ("lake", "elasticsearch")
    return backfill(fleet, lake, archive, config=CONFIG, stores=stores, **options)


def differing(lake, book):
    """Tables of which lake and book do not hold the same rows."""
    return [table.name for table in TABLES.values() if rows_of_one(lake, book, table)]


def rows_of_one(lake, book, table):
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    columns = ", ".join(f'"{name}"' for name in table.columns.names if name != "revision")
    taken = book.taken(table)
    connection.register("taken", taken.append_column("came", pa.array(range(taken.num_rows))))
    counting = f"""(select {columns} from taken qualify not gone and 1 = row_number() over (
        partition by {", ".join(table.key)}, {table.time}::date order by revision desc, came))"""
    written = f"select {columns} from read_parquet('{lake}/{table.name}/*/*/*.parquet')"
    found = []
    for one, other in ((counting, written), (written, counting)):
        found += connection.execute(f"{one} except all {other}").fetchmany(3)
    return found


@pytest.mark.parametrize(
    "order",
    [pytest.param((0, 1), marks=pytest.mark.long), (1, 0)],
    ids=["early first", "late first"],
)
def test_parts_in_any_order_leave_the_rows_of_the_lake(fleet, tmp_path, book, order):
    """Uploads of the second part have a say in those of the first: rows move to another hour, go,
    and are shown of another copy instead."""
    parts = (
        subset(fleet, tmp_path / "early", lambda name: hour_of(name) < "2024011600"),
        subset(fleet, tmp_path / "late", lambda name: hour_of(name) >= "2024011600"),
    )
    for part in order:
        into_both(fleet, tmp_path / "lake", parts[part])
    gone = sum(pc.sum(book.taken(table)["gone"]).as_py() or 0 for table in TABLES.values())
    assert gone > 10 or order == (0, 1)
    assert differing(tmp_path / "lake", book) == []


def test_rows_that_are_refused_are_dead_letters_of_the_lake(fleet, tmp_path, book):
    book.unwanted = ("telemetry_boot", "vehicle_minutes")
    early = subset(fleet, tmp_path / "early", lambda name: hour_of(name) < "2024011523")
    into_both(fleet, tmp_path / "lake", early)
    query = "message_type, count(distinct dead_letter_id)"
    place = f"{tmp_path}/lake/dead_letters/*/*/*.parquet"
    query = f"select {query} from read_parquet(?) where stage = 'SINK' group by all"
    told = dict(duckdb.execute(query, [place]).fetchall())
    boots = rows(tmp_path / "lake", "telemetry_boot")[0][0]
    minutes = rows(tmp_path / "lake", "vehicle_minutes")[0][0]
    assert told == {"boot": boots, "vehicle_minutes": minutes}


def test_a_run_into_the_lake_alone_opens_no_store(fleet, tmp_path, book):
    early = subset(fleet, tmp_path / "early", lambda name: hour_of(name) < "2024011523")
    backfill(fleet, tmp_path / "lake", early, config=CONFIG, stores=("lake",))
    assert not book.pages


@pytest.mark.parametrize(
    ("stores", "reason"),
    [
        (("lake", "moon"), "moon"),
        (("elasticsearch",), "say lake too"),
        (("lake", "bigquery"), "sinks.bigquery"),
    ],
)
def test_stores_that_cannot_be_meant_are_refused(fleet, tmp_path, stores, reason):
    with pytest.raises(BadArguments, match=reason):
        backfill(fleet, tmp_path / "lake", config=CONFIG, stores=stores)
