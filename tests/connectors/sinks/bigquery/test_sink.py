"""What BigQuery holds after rows were written, in any order and any number of times."""

import datetime as dt
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.cloud import bigquery as google
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.errors import BadSettings, DependencyFailed
from connectors.sinks.bigquery import views
from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.bigquery.sink import BigQuerySink
from connectors.sinks.tables import MINUTES, TABLES, Table
from tests.connectors.sinks.bigquery.rows import GPS, NOON, latest, many, part, row, rows_of

pytestmark = pytest.mark.servers

MODES = pytest.mark.parametrize("mode", ["storage_write", "insert_rows"])
DAY = NOON.date()


@MODES
def test_rows_of_every_table_come_back_as_they_were_written(place, mode):
    sink = place.sink(*TABLES.values(), mode=mode)
    for table in TABLES.values():
        given = [row(table, number) for number in range(20)]
        written = sink.write(table, rows_of(table, *given))
        assert (written.rows, written.refused.num_rows, written.retries) == (20, 0, 0)
        assert written.size > 20 * 50
        assert place.latest(table) == {part(table, one): one for one in given}


@MODES
def test_a_replay_leaves_the_view_as_it_was(place, mode):
    sink = place.sink(GPS, mode=mode)
    rows = many(GPS, 50)
    sink.write(GPS, rows)
    before = place.latest(GPS)
    sink.write(GPS, rows.slice(10, 30))
    sink.write(GPS, rows)
    assert place.latest(GPS) == before
    assert len(before) == 50


@pytest.fixture(scope="module")
def growing():
    """Numbers of keys that no example had before."""
    return iter(range(0, 10**9, 100))


REVISIONS = st.lists(
    st.builds(
        dict,
        key=st.integers(0, 3),
        day=st.integers(0, 1),
        revision=st.integers(0, 2),
        offset=st.integers(0, 2),
        gone=st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


def test_revisions_converge_in_any_order_and_any_batches(place, growing):
    sink = place.sink(GPS)
    everything = []

    @settings(
        max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
    )
    @given(REVISIONS, st.randoms(use_true_random=False), st.integers(1, 4))
    def check(specs, chance, batch):
        start = next(growing)
        made = [_one_of(start, spec) for spec in specs]
        again = [*made, *chance.sample(made, len(made) // 2)]
        chance.shuffle(again)
        for first in range(0, len(again), batch):
            sink.write(GPS, rows_of(GPS, *again[first : first + batch]))
        mine = " OR ".join(f"message_id = 'message_id-{start + n}'" for n in range(4))
        assert place.latest(GPS, mine) == latest(GPS, made)
        everything.extend(made)

    check()
    assert place.latest(GPS) == latest(GPS, everything)


def _one_of(start, spec):
    """A row that is a function of its key, date, revision, place and whether it is gone."""
    number = start + spec["key"]
    return row(
        GPS,
        number,
        seed=str(sorted(spec.items())),
        event_time=NOON + dt.timedelta(days=spec["day"]),
        received_time=NOON,
        topic="message-gps",
        partition=0,
        **{name: spec[name] for name in ("revision", "offset", "gone")},
    )


def test_minutes_converge_too(place):
    sink = place.sink(MINUTES)
    first, better = (row(MINUTES, 1, seed=n, revision=n) for n in (1, 2))
    again = row(MINUTES, 2, revision=1)
    sink.write(MINUTES, rows_of(MINUTES, better, again))
    sink.write(MINUTES, rows_of(MINUTES, first, again))
    assert place.latest(MINUTES) == {part(MINUTES, one): one for one in (better, again)}


def test_a_row_that_is_gone_vanishes_from_its_date_alone_and_does_not_come_back(place):
    sink = place.sink(GPS)
    moved = row(GPS, 1, event_time=NOON + dt.timedelta(days=1), revision=7)
    gone = row(GPS, 1, event_time=NOON, revision=7, gone=True)
    first = row(GPS, 1, event_time=NOON, revision=0)
    sink.write(GPS, rows_of(GPS, first))
    sink.write(GPS, rows_of(GPS, gone, moved))
    sink.write(GPS, rows_of(GPS, first))
    assert place.latest(GPS) == {part(GPS, moved): moved}
    sink.compact(GPS, DAY)
    sink.write(GPS, rows_of(GPS, first))
    assert place.latest(GPS) == {part(GPS, moved): moved}


def test_rows_of_two_topics_never_shadow_each_other(place):
    sink = place.sink(GPS)
    same_place = {"partition": 3, "offset": 77, "line": 0}
    ours = row(GPS, 1, topic="message-gps", **same_place)
    theirs = row(GPS, 2, topic="message-gps-csa", **same_place)
    for one in (ours, theirs, ours):
        sink.write(GPS, rows_of(GPS, one))
    assert place.latest(GPS) == {part(GPS, one): one for one in (ours, theirs)}


def test_compacting_leaves_one_row_a_key_and_the_view_as_it_was(place):
    sink = place.sink(GPS)
    other_day = row(GPS, 900, event_time=NOON + dt.timedelta(days=1))
    for revision in range(3):
        sink.write(GPS, many(GPS, 20, revision=revision, seed=revision))
        sink.write(GPS, rows_of(GPS, other_day))
    before = place.latest(GPS)
    assert place.count(GPS) == 63
    for _ in range(2):
        sink.compact(GPS, DAY)
        assert (place.count(GPS), place.latest(GPS)) == (23, before)


def test_a_day_is_loaded_once_and_yields_to_what_is_known_better(place, tmp_path):
    sink = place.sink(GPS)
    given = [row(GPS, number, revision=5) for number in range(10)]
    better = row(GPS, 3, seed=1, revision=9)
    next_day = row(GPS, 99, event_time=NOON + dt.timedelta(days=1))
    sink.write(GPS, rows_of(GPS, better))
    facts = rows_of(GPS, *given, next_day).select(GPS.columns.names)
    for name, rows in (("a", facts.slice(0, 4)), ("b", facts.slice(4))):
        pq.write_table(rows, tmp_path / name)
    for _ in range(2):
        loaded = sink.load_day(GPS, DAY, [tmp_path / "a", tmp_path / "b"], revision=5)
        assert loaded.rows == 10
    assert place.count(GPS) == 11
    assert place.latest(GPS) == latest(GPS, [*given, better])


def test_files_older_than_a_column_are_loaded_without_it(place, tmp_path):
    sink = place.sink(GPS)
    facts = many(GPS, 3).select([name for name in GPS.columns.names if name != "hdop"])
    pq.write_table(facts, tmp_path / "old")
    sink.load_day(GPS, DAY, [tmp_path / "old"])
    assert [one["hdop"] for one in place.latest(GPS).values()] == [None] * 3


def test_tables_are_partitioned_by_event_date_and_clustered_by_vehicle(place):
    sink = place.sink(GPS, MINUTES)
    found = sink.dataset.found(GPS)
    assert (found.time_partitioning.type_, found.time_partitioning.field) == ("DAY", "event_date")
    assert found.clustering_fields == ["vehicle_id", "device_no"]
    assert sink.dataset.found(MINUTES).clustering_fields == ["vehicle_id"]
    required = {field.name for field in found.schema if field.mode == "REQUIRED"}
    assert required == {
        "message_id", "sample_idx", "event_time", "event_date", "revision", "gone"
    }  # fmt: skip


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_filter_on_the_date_passes_through_the_view_to_the_partitions(table):
    window = views.latest(table, "p.d.t").partition("OVER (")[2]
    assert window.strip().startswith("PARTITION BY `event_date`, ")


def test_the_view_can_be_asked_for_one_date(place):
    sink = place.sink(GPS)
    today, tomorrow = row(GPS, 1), row(GPS, 2, event_time=NOON + dt.timedelta(days=1))
    sink.write(GPS, rows_of(GPS, today, tomorrow))
    assert place.latest(GPS, f"event_date = '{DAY}'") == {part(GPS, today): today}


def test_many_may_prepare_at_once(place):
    sinks = [place.sink() for _ in range(4)]
    failures = []

    def prepare(sink):
        try:
            sink.prepare([GPS])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=prepare, args=[sink]) for sink in sinks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    sinks[0].write(GPS, many(GPS, 1))
    assert place.count(GPS) == 1


def test_many_sinks_have_a_stream_open_at_once(place):
    sinks = [place.sink(GPS) for _ in range(12)]
    for number, sink in enumerate(sinks):
        sink.write(GPS, many(GPS, 2, start=2 * number))
    assert len(place.latest(GPS)) == 24


def without(table, *names):
    """The table as it was before these columns."""
    fields = [field for field in table.columns if field.name not in names]
    return Table(
        table.name, type(table.columns)(fields) if False else _schema(fields), table.key, table.time
    )


def _schema(fields):

    return pa.schema(fields)


def test_a_column_that_is_new_is_added_to_table_and_view(place):
    old = without(GPS, "hdop", "fix_type", "quality_flags")
    before = row(old, 1)
    sink = place.sink(old)
    sink.write(old, rows_of(old, before))
    sink.prepare([GPS])
    after = row(GPS, 2)
    sink.write(GPS, rows_of(GPS, after))
    found = place.latest(GPS)
    assert found[part(GPS, after)] == after
    filled = {"hdop": None, "fix_type": None}
    assert {**found[part(GPS, before)], "quality_flags": []} == {
        **before, **filled, "quality_flags": []
    }  # fmt: skip


def remade(sink, *columns, date=None):
    """The table as somebody else made it, partitioned by `date`."""
    client, place = sink.dataset.rest.client, sink.dataset.place(GPS)
    client.delete_table(place)
    made = google.Table(place, [google.SchemaField(*column) for column in columns])
    made.time_partitioning = google.TimePartitioning(field=date) if date else None
    client.create_table(made)


def test_a_column_of_another_type_is_named(place):
    sink = place.sink(GPS)
    remade(sink, ("event_date", "DATE"), ("hdop", "STRING"), date="event_date")
    with pytest.raises(
        DependencyFailed,
        match=r"column hdop is STRING, but rows have FLOAT.*sinks\.bigquery\.dataset",
    ):
        sink.prepare([GPS])


def test_a_table_that_is_not_partitioned_by_date_is_left_alone(place):
    sink = place.sink(GPS)
    remade(sink, ("hdop", "FLOAT"))
    with pytest.raises(
        DependencyFailed, match=r"not partitioned by event_date.*sinks\.bigquery\.dataset"
    ):
        sink.prepare([GPS])


@MODES
def test_a_write_larger_than_a_request_is_cut(place, mode):
    sink = place.sink(GPS, mode=mode, batch_size=7, batch_bytes=100_000, max_in_flight_requests=3)
    sink.write(GPS, many(GPS, 100))
    assert len(place.latest(GPS)) == 100


@MODES
def test_a_row_larger_than_a_request_is_refused_alone(place, mode):
    sink = place.sink(GPS, mode=mode)
    huge = row(GPS, 1, fix_type="x" * (10 << 20))
    written = sink.write(GPS, rows_of(GPS, row(GPS, 0), huge, row(GPS, 2)))
    assert (written.rows, written.refused["source_offset"].to_pylist()) == (2, [huge["offset"]])
    assert "bytes" in written.refused["error_message"][0].as_py()
    assert len(place.latest(GPS)) == 2


def test_nothing_is_a_write_too(place):
    written = place.sink(GPS).write(GPS, GPS.revised.empty_table())
    assert (written.rows, written.size, written.refused.num_rows) == (0, 0, 0)


def test_a_project_is_needed():
    with pytest.raises(BadSettings, match=r"sinks\.bigquery\.project"):
        BigQuerySink(BigQuerySettings())
