"""Jobs run once and are found where they ran; what BigQuery refuses for now is for later."""

import orjson
import pyarrow.parquet as pq
import pytest

from runners.stack.faults import rules as http
from tests.connectors.sinks.bigquery.rows import GPS, NOON, latest, many
from tests.connectors.sinks.bigquery.test_faults import JSON, refusal

pytestmark = pytest.mark.servers

DAY = NOON.date()
START = r"/jobs(\?|$)"
LOOK = r"/jobs/"
NOWHERE = r"/jobs/(?!.*location=)"
TABLE = rf"/tables/{GPS.name}(\?|$)"


@pytest.fixture
def day(tmp_path):
    """A file with ten rows of the day."""
    pq.write_table(many(GPS, 10), tmp_path / "day")
    return [tmp_path / "day"]


def elsewhere(body):
    """A table as it is answered where its dataset does not lie in the US or the EU."""
    return orjson.dumps({**orjson.loads(body), "location": "europe-west3"})


def test_a_job_is_looked_for_where_its_table_lies(place, day):
    sink = place.sink(GPS)
    place.rest.rule("GET", TABLE, http.Rewrite(elsewhere))
    place.rest.rule("GET", NOWHERE, refusal(404, "notFound", "not found: job"))
    for _ in range(2):
        assert sink.load_day(GPS, DAY, day).rows == 10
    assert place.count(GPS) == 10


def test_a_job_that_is_there_but_not_found_yet_is_waited_for(place, day):
    sink = place.sink(GPS)
    sink.load_day(GPS, DAY, day)
    rule = place.rest.rule("GET", LOOK, refusal(404, "notFound", "not found: job"), times=2)
    assert sink.load_day(GPS, DAY, day).rows == 10
    assert (rule.struck, place.count(GPS)) == (2, 10)


@pytest.mark.parametrize("request_number", [2, 3])
def test_a_day_is_loaded_through_trouble_with_its_table(place, day, request_number):
    sink = place.sink(GPS)
    trouble = refusal(503, "backendError")
    rule = place.rest.rule("GET", TABLE, trouble, first=request_number, times=1)
    assert sink.load_day(GPS, DAY, day).rows == 10
    assert (rule.struck, place.count(GPS)) == (1, 10)


def failed(reason, words):
    """A job that was taken and failed."""
    error = {"reason": reason, "message": words}
    job = {
        "jobReference": {"projectId": "test", "jobId": "one"},
        "configuration": {"query": {"query": ""}},
        "status": {"state": "DONE", "errorResult": error, "errors": [error]},
    }
    return http.Answer(200, orjson.dumps(job), JSON)


BUFFERED = (
    "UPDATE or DELETE statement over table p.d.t would affect rows in the streaming buffer, "
    "which is not supported"
)
CONCURRENT = "Could not serialize access to table p.d.t due to concurrent update"
EITHER = pytest.mark.parametrize("how", [failed, lambda *told: refusal(400, *told)])


def twice(place):
    """A sink whose table has every row of a day twice, and the rows."""
    sink, rows = place.sink(GPS), many(GPS, 5)
    for _ in range(2):
        sink.write(GPS, rows)
    return sink, rows


@EITHER
def test_rows_that_are_buffered_are_compacted_later(place, how):
    sink, rows = twice(place)
    rule = place.rest.rule("POST", START, how("invalidQuery", BUFFERED), times=1)
    assert sink.compact(GPS, DAY) is False
    assert rule.struck == 1
    assert (place.count(GPS), place.latest(GPS)) == (10, latest(GPS, rows.to_pylist()))
    assert sink.compact(GPS, DAY) is True
    assert place.count(GPS) == 5


@EITHER
def test_a_table_that_others_change_is_compacted_when_they_are_done(place, how):
    sink, rows = twice(place)
    rule = place.rest.rule("POST", START, how("invalidQuery", CONCURRENT), times=2)
    assert sink.compact(GPS, DAY) is True
    assert rule.struck == 2
    assert (place.count(GPS), place.latest(GPS)) == (5, latest(GPS, rows.to_pylist()))


def test_compacting_whose_answer_was_lost_is_not_started_again(place):
    sink, _ = twice(place)
    rule = place.rest.rule("POST", START, http.LoseAnswer(), times=1)
    assert sink.compact(GPS, DAY) is True
    assert (rule.struck, rule.seen) == (1, 1)
    assert place.count(GPS) == 5
