"""Rows in the forms that BigQuery takes: its lists have no nulls, its JSON no NaN and no null for
a list, its streams no dates far away."""

import datetime as dt
import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.sinks.bigquery import schema
from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.bigquery.sink import BigQuerySink
from connectors.sinks.tables import TABLES, TELEMETRY
from pipelines.row_revisions import gone_rows
from tests.connectors.sinks.bigquery.rows import GPS, NOON, part, row, rows_of

pytestmark = pytest.mark.servers

LOG, KINEMATIC = TELEMETRY["log"], TELEMETRY["kinematic"]
DAY = NOON.date()
MODES = pytest.mark.parametrize("mode", ["storage_write", "insert_rows"])
NUMBERS = "tire_pressure_kpa"


def no_constant(name):
    raise ValueError(name)


class Strict(BaseHTTPRequestHandler):
    """insertAll as BigQuery has it: HTTP 400 for NaN, a reason for a null where a list belongs."""

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            rows = [one["json"] for one in json.loads(text, parse_constant=no_constant)["rows"]]
        except ValueError as error:
            return self.tell(400, {"error": {"code": 400, "message": f"not JSON: {error}"}})
        self.server.rows.extend(rows)
        empty = {"reason": "invalid", "message": "Field value cannot be empty."}
        errors = [
            {"index": number, "errors": [empty]}
            for number, one in enumerate(rows)
            if any(name in one and one[name] is None for name in self.server.lists)
        ]
        return self.tell(200, {"insertErrors": errors} if errors else {})

    def tell(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def strict():
    """The rows such a server got, and a sink of it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Strict) as server:
        kinds = [field for table in TABLES.values() for field in schema.sent_schema(table)]
        server.lists = {field.name for field in kinds if pa.types.is_list(field.type)}
        server.rows = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        settings = BigQuerySettings(
            project="test", mode="insert_rows", insecure=True, api_endpoint=address,
            storage_endpoint="127.0.0.1:1", max_retries=0,
        )  # fmt: skip
        sink = BigQuerySink(settings)
        yield sink, server.rows
        sink.close()
        server.shutdown()


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_an_insert_says_nothing_of_what_a_row_lacks(strict, table):
    sink, got = strict
    keys = rows_of(table, row(table)).select(list(dict.fromkeys((*table.key, table.time))))
    lacking = gone_rows(table, keys.combine_chunks().to_batches()[0], 7)
    written = sink.write(table, lacking)
    assert (written.rows, written.refused.num_rows) == (1, 0)
    assert None not in got[0].values()
    assert {*table.key, table.time, "event_date", "revision", "gone"} <= got[0].keys()


def test_numbers_that_json_does_not_have_are_inserted_in_lists_too(strict):
    sink, got = strict
    strange = row(KINEMATIC, accel_x_mps2=[math.nan, 1.5, math.inf, -math.inf])
    plain = row(KINEMATIC, 1, accel_x_mps2=[0.5])
    written = sink.write(KINEMATIC, rows_of(KINEMATIC, strange, plain))
    assert (written.rows, written.refused.num_rows) == (2, 0)
    lists = [one["accel_x_mps2"] for one in got]
    assert [[float(number) for number in numbers] for numbers in lists] == [
        [pytest.approx(math.nan, nan_ok=True), 1.5, math.inf, -math.inf], [0.5]
    ]  # fmt: skip


@MODES
def test_endless_numbers_in_lists_come_back(place, mode):
    sink = place.sink(LOG, mode=mode)
    given = row(LOG, **{NUMBERS: [math.inf, 2.5, -math.inf]})
    sink.write(LOG, rows_of(LOG, given))
    assert place.latest(LOG) == {part(LOG, given): given}


WITH_NULLS = [[220.0, None, 218.0], [None], [], None, [1.0], [None, 2.0]]
WITHOUT = [[220.0, 218.0], [], [], [], [1.0], [2.0]]


def lists_with_nulls():
    given = [row(LOG, n, **{NUMBERS: numbers}) for n, numbers in enumerate(WITH_NULLS)]
    kept = [one | {NUMBERS: numbers} for one, numbers in zip(given, WITHOUT, strict=True)]
    return rows_of(LOG, *given), {part(LOG, one): one for one in kept}


@MODES
def test_null_elements_of_lists_are_left_out_and_the_others_stay_in_order(place, mode):
    sink = place.sink(LOG, mode=mode)
    rows, kept = lists_with_nulls()
    written = sink.write(LOG, rows)
    assert (written.rows, written.refused.num_rows) == (len(WITH_NULLS), 0)
    assert place.latest(LOG) == kept


def test_null_elements_of_lists_do_not_fail_a_days_load(place, tmp_path):
    sink = place.sink(LOG)
    rows, kept = lists_with_nulls()
    pq.write_table(rows, tmp_path / "day")
    assert sink.load_day(LOG, DAY, [tmp_path / "day"]).rows == len(WITH_NULLS)
    assert place.latest(LOG) == kept


@pytest.mark.parametrize("cut", [slice(0, 6), slice(1, 5), slice(3, 4)])
def test_no_list_that_is_sent_holds_a_null(cut):
    rows, _ = lists_with_nulls()
    sent = schema.sent(LOG, rows.slice(cut.start, cut.stop - cut.start))
    sent.validate(full=True)
    found = [numbers or [] for numbers in sent.column(NUMBERS).to_pylist()]
    assert found == WITHOUT[cut]


@MODES
def test_dates_that_bigquery_does_not_stream_into_are_refused_alone_and_say_so(place, mode):
    sink = place.sink(GPS, mode=mode)
    today = dt.datetime.now(dt.UTC)
    days = {0: 0, 1: -3_652, 2: -3_640, 3: 1_820, 4: 1_827}
    given = {n: row(GPS, n, event_time=today + dt.timedelta(gap)) for n, gap in days.items()}
    written = sink.write(GPS, rows_of(GPS, *given.values()))
    assert written.rows == 3
    letters = written.refused
    assert letters["source_offset"].to_pylist() == [given[n]["offset"] for n in (1, 4)]
    assert set(letters["stage"].to_pylist()) == {"SINK"}
    assert all("streams into" in words for words in letters["error_message"].to_pylist())
    assert {one[1] for one in place.latest(GPS)} == {f"message_id-{n}" for n in (0, 2, 3)}


def test_the_bounds_of_streaming_are_those_that_bigquery_tells():
    today = dt.date(2026, 6, 1)
    edges = [today - dt.timedelta(3_650), today + dt.timedelta(1_825)]
    outside = [edges[0] - dt.timedelta(1), edges[1] + dt.timedelta(1)]
    midnight = [dt.datetime.combine(day, dt.time(), dt.UTC) for day in (*edges, *outside)]
    given = rows_of(GPS, *(row(GPS, n, event_time=time) for n, time in enumerate(midnight)))
    assert schema.unstreamable(schema.sent(GPS, given), today).keys() == {2, 3}


def test_a_day_out_of_reach_of_streams_is_loaded(place, tmp_path):
    sink = place.sink(GPS)
    old = dt.datetime(2001, 2, 3, tzinfo=dt.UTC)
    given = row(GPS, event_time=old)
    pq.write_table(rows_of(GPS, given), tmp_path / "day")
    sink.load_day(GPS, old.date(), [tmp_path / "day"])
    assert place.latest(GPS) == {part(GPS, given): given}
