"""A day's load job that is refused for what is in some rows: those are named, the others kept."""

import datetime as dt

import grpc
import orjson
import pyarrow.parquet as pq
import pytest

from connectors.errors import DependencyFailed
from connectors.sinks.bigquery import load_bisect
from connectors.sinks.bigquery.errors import RowsRefused
from runners.stack.faults import rules as http
from runners.stack.faults.grpc_proxy import Answer, Fail
from tests.connectors.sinks.bigquery.rows import GPS, NOON, many, part, row, rows_of
from tests.connectors.sinks.bigquery.test_faults import APPEND, JSON, Judge

pytestmark = pytest.mark.servers

DAY = NOON.date()
OLD = dt.datetime(2001, 2, 3, tzinfo=dt.UTC)
UPLOAD = "/upload/"
FIRST_TRY = r"/jobs/odograph-\S+-0\?"
NO_ROW = "Error while reading data, error message: a row is bad"


def failed(reason, words):
    """A load job that was taken and failed."""
    error = {"reason": reason, "message": words}
    job = {
        "jobReference": {"projectId": "test", "jobId": "one"},
        "configuration": {"load": {}},
        "status": {"state": "DONE", "errorResult": error, "errors": [error]},
    }
    return http.Answer(200, orjson.dumps(job), JSON)


def told(letters):
    """Stage, offset and whether the reason is BigQuery's, of each letter."""
    columns = ("stage", "source_offset", "error_message")
    found = zip(*(letters[name].to_pylist() for name in columns), strict=True)
    return [(stage, offset, "bigquery: " in words) for stage, offset, words in found]


@pytest.fixture
def given(tmp_path):
    """Ten rows of a day, the fourth of which BigQuery does not like, and their file."""
    rows = [row(GPS, n, **({"fix_type": "BAD"} if n == 3 else {})) for n in range(10)]
    pq.write_table(rows_of(GPS, *rows), tmp_path / "day")
    return rows, [tmp_path / "day"]


def kept(rows):
    """What the view must hold of them."""
    return {part(GPS, one): one for one in rows if one["fix_type"] != "BAD"}


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("invalid", NO_ROW),
        ("invalid", "Error while reading data, error message: Row size is larger than: 104857600"),
        ("invalid", "Required column event_time is null"),
        ("invalidQuery", "Value out of range: 1e400"),
        ("invalid", "Field fix_type: value is too long, maximum length 8"),
        ("resourcesExceeded", "might happen if the file contains a row that is too large"),
    ],
)
def test_the_row_at_fault_is_a_dead_letter_and_its_neighbours_are_kept(place, given, reason, words):
    rows, files = given
    sink = place.sink(GPS)
    place.rest.rule("PUT", UPLOAD, failed(reason, words))
    place.storage.rule(APPEND, Answer(Judge()))
    written = sink.load_day(GPS, DAY, iter(files))
    assert (written.rows, told(written.refused)) == (9, [("SINK", rows[3]["offset"], True)])
    assert place.latest(GPS) == kept(rows)


def test_a_day_that_is_refused_again_is_the_same_again(place, given):
    rows, files = given
    sink = place.sink(GPS)
    place.storage.rule(APPEND, Answer(Judge()))
    refusing = place.rest.rule("PUT", UPLOAD, failed("invalid", NO_ROW))
    first = sink.load_day(GPS, DAY, files)
    used_up = place.rest.rule("GET", FIRST_TRY, failed("invalid", NO_ROW))
    again = sink.load_day(GPS, DAY, files)
    assert (refusing.struck, used_up.struck) == (2, 1)
    assert again.refused == first.refused
    assert place.latest(GPS) == kept(rows)


def test_a_day_that_is_taken_after_all_is_there_once_in_the_view(place, given):
    rows, files = given
    sink = place.sink(GPS)
    place.storage.rule(APPEND, Answer(Judge()))
    place.rest.rule("PUT", UPLOAD, failed("invalid", NO_ROW), times=1)
    assert sink.load_day(GPS, DAY, files).rows == 9
    for _ in range(2):
        assert sink.load_day(GPS, DAY, files).rows == 10
    assert place.count(GPS) == 19
    assert place.latest(GPS) == {part(GPS, one): one for one in rows}


@pytest.mark.parametrize(
    "reason", ["quotaExceeded", "backendError", "jobRateLimitExceeded", "badGateway"]
)
def test_what_passes_is_waited_out_and_no_row_is_appended(place, given, reason):
    rows, files = given
    sink = place.sink(GPS)
    appends = place.storage.rule(APPEND, Answer(Judge()))
    place.rest.rule("PUT", UPLOAD, failed(reason, "Error while reading data"), times=2)
    written = sink.load_day(GPS, DAY, files)
    assert (written.rows, written.refused.num_rows, appends.seen) == (10, 0, 0)
    assert place.count(GPS) == len(rows)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("accessDenied", "Access Denied: Table p:d.t"),
        ("notFound", "Not found: Table p:d.t"),
        ("invalid", "Provided Schema does not match Table p:d.t. Field hdop has changed type"),
        ("resourcesExceeded", "Resources exceeded during query execution"),
    ],
)
def test_what_is_not_about_rows_fails_the_work_and_is_no_dead_letter(place, given, reason, words):
    sink = place.sink(GPS)
    appends = place.storage.rule(APPEND, Answer(Judge()))
    place.rest.rule("PUT", UPLOAD, failed(reason, words))
    with pytest.raises(DependencyFailed, match=words[:20]):
        sink.load_day(GPS, DAY, given[1])
    assert (appends.seen, place.count(GPS)) == (0, 0)


def test_an_outage_while_rows_are_named_fails_the_work_and_is_no_dead_letter(place, given):
    sink = place.sink(GPS, max_retries=2)
    place.rest.rule("PUT", UPLOAD, failed("invalid", NO_ROW))
    place.storage.rule(APPEND, Fail(grpc.StatusCode.UNAVAILABLE))
    with pytest.raises(DependencyFailed, match="UNAVAILABLE"):
        sink.load_day(GPS, DAY, given[1])


def test_a_day_out_of_reach_of_streams_is_loaded_in_halves_down_to_the_row(place, tmp_path):
    sink = place.sink(GPS)
    rows = [row(GPS, n, event_time=OLD + dt.timedelta(minutes=n)) for n in range(4)]
    pq.write_table(rows_of(GPS, *rows), tmp_path / "day")
    appends = place.storage.rule(APPEND, Answer(Judge()))
    whole_and_piece = place.rest.rule("PUT", UPLOAD, failed("invalid", NO_ROW), times=2)
    third_and_fourth = place.rest.rule("PUT", UPLOAD, failed("invalid", NO_ROW), first=4, times=2)
    written = sink.load_day(GPS, OLD.date(), [tmp_path / "day"])
    assert (whole_and_piece.struck, third_and_fourth.struck, appends.seen) == (2, 2, 0)
    assert (written.rows, told(written.refused)) == (3, [("SINK", rows[2]["offset"], True)])
    assert "a row is bad" in written.refused["error_message"][0].as_py()
    assert place.latest(GPS) == {part(GPS, one): one for n, one in enumerate(rows) if n != 2}


def test_an_old_day_of_which_no_row_is_taken_is_not_at_fault_itself(place, tmp_path):
    sink = place.sink(GPS)
    pq.write_table(many(GPS, 20, event_time=OLD), tmp_path / "day")
    place.rest.rule("PUT", UPLOAD, failed("invalid", NO_ROW))
    said = r"20 rows of 2001-02-03 were refused.*none was kept"
    with pytest.raises(DependencyFailed, match=said):
        sink.load_day(GPS, OLD.date(), [tmp_path / "day"])


@pytest.mark.parametrize("first", [0, 470, 940])
def test_good_rows_are_found_wherever_an_upload_of_bad_ones_lies(monkeypatch, first):
    def takes_none_of_it(dataset, table, day, parts):
        (rows,) = parts
        if "BAD" in rows["fix_type"].to_pylist():
            raise RowsRefused(NO_ROW)
        return rows.num_rows, 1

    monkeypatch.setattr(load_bisect, "load_rows", takes_none_of_it)
    upload = range(first, first + 60)
    rows = [row(GPS, n, **({"fix_type": "BAD"} if n in upload else {})) for n in range(1000)]
    written = load_bisect.load_by_halves(None, "bigquery", GPS, OLD.date(), [rows_of(GPS, *rows)])
    letters = set(written.refused["source_offset"].to_pylist())
    assert (written.rows, letters) == (940, {rows[n]["offset"] for n in upload})
