"""Dead letters of a store's table and date: what was refused last of a row, and of no row that was
taken since."""

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.refused_rows import refused
from connectors.sinks.tables import MINUTES, TELEMETRY
from pipelines.backfill.day_load_dead_letters import name_of, replace_letters
from pipelines.backfill.day_loads import Load
from pipelines.backfill.spec import BackfillSpec
from tests.connectors.sinks.bigquery.rows import NOON, row, rows_of

pytestmark = pytest.mark.days

GPS = TELEMETRY["gps"]


@pytest.fixture
def job(tmp_path):
    return BackfillSpec("", "", str(tmp_path), "", stores=(BigQuerySettings(project="test"),))


def load_of(job, table):
    return Load(job.stores[0], table.name, NOON.date(), ())


def hand_on(job, table, taken=(), not_taken=(), why="no"):
    """A load of these rows ends, some of which were refused."""
    content = pa.BufferOutputStream()
    pq.write_table(rows_of(table, *taken, *not_taken), content)
    letters = refused("bigquery", table, rows_of(table, *not_taken), [why] * len(not_taken))
    replace_letters(job, load_of(job, table), [pa.BufferReader(content.getvalue())], letters)


def told(job, table):
    """What each letter says of which revision of a row, by the row's key."""
    data = job.tables.read(name_of(load_of(job, table)))
    if data is None:
        return None
    found = [
        (orjson.loads(one["raw_value"]), one["error_message"])
        for one in pq.read_table(pa.BufferReader(data)).to_pylist()
    ]
    return {one[table.key[0]]: (one["revision"], why) for one, why in found}


@pytest.mark.parametrize("table", [GPS, MINUTES], ids=["gps", "minutes"])
def test_a_row_that_is_taken_has_no_letter_any_more(job, table):
    one, other = row(table, 1, revision=1), row(table, 2, revision=1)
    hand_on(job, table, taken=[row(table, 3)], not_taken=[one, other])
    hand_on(job, table, taken=[one])
    assert told(job, table) == {f"{table.key[0]}-2": (1, "bigquery: no")}
    hand_on(job, table, taken=[row(table, 2, revision=2)])
    assert told(job, table) is None


def test_letters_of_rows_that_are_not_handed_on_stay(job):
    hand_on(job, GPS, not_taken=[row(GPS, 1)])
    hand_on(job, GPS, not_taken=[row(GPS, 2)])
    assert told(job, GPS).keys() == {"message_id-1", "message_id-2"}


def test_a_row_that_is_refused_again_has_one_letter(job):
    hand_on(job, GPS, not_taken=[row(GPS, 1, revision=1)])
    hand_on(job, GPS, not_taken=[row(GPS, 1, revision=2)], why="still no")
    assert told(job, GPS) == {"message_id-1": (2, "bigquery: still no")}


def test_an_older_row_of_the_key_says_nothing_of_the_newer_one(job):
    older = row(GPS, 1, revision=1)
    hand_on(job, GPS, not_taken=[row(GPS, 1, revision=2)])
    hand_on(job, GPS, taken=[older | {"gone": True}])
    hand_on(job, GPS, not_taken=[older], why="older")
    assert told(job, GPS) == {"message_id-1": (2, "bigquery: no")}


def test_a_day_without_refused_rows_has_no_letters(job):
    hand_on(job, GPS, taken=[row(GPS, 1)])
    assert told(job, GPS) is None
