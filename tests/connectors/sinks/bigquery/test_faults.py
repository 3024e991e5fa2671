"""What BigQuery holds, and who is told, after anything went wrong between us and it."""

import itertools
import random
import threading
import time

import grpc
import orjson
import pyarrow as pa
import pytest
from google.cloud import bigquery as google
from google.cloud.bigquery_storage_v1 import types
from google.protobuf import any_pb2
from google.rpc import code_pb2

from connectors.errors import DependencyFailed
from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.bigquery.sink import BigQuerySink
from runners.stack.faults import rules as http
from runners.stack.faults.grpc_proxy import Answer, Close, Delay, Fail, LoseAnswer
from runners.stack.processes import free_port
from runners.stack.servers.bigquery import BigQuery
from tests.connectors.sinks.bigquery.rows import GPS, latest, many, part, row, rows_of
from tests.support.servers import CACHE, running, server_folder

pytestmark = pytest.mark.servers

Request, Response = types.AppendRowsRequest.pb(), types.AppendRowsResponse.pb()
StorageError = types.StorageError.pb()
CODES = types.StorageError.StorageErrorCode
APPEND = "AppendRows"
TABLES = r"/tables"
INSERT = r"/insertAll"
HDOP_AS_TEXT = google.SchemaField("hdop", "STRING")
JSON = {"Content-Type": "application/json"}


def said(code, words="", storage_error=None, rows=()):
    """An answer of BigQuery's; `rows` are (index, words) of bad rows."""
    made = Response()
    made.error.code, made.error.message = code, words
    if storage_error is not None:
        detail = any_pb2.Any()
        detail.Pack(StorageError(code=storage_error, error_message=words))
        made.error.details.append(detail)
    for index, why in rows:
        made.row_errors.add(index=index, code=types.RowError.RowErrorCode.FIELDS_ERROR, message=why)
    return made.SerializeToString()


def always(*given, **named):
    """A fault that answers every message so."""
    answer = said(*given, **named)
    return Answer(lambda message: answer)


class Judge:
    """Answers as BigQuery does that does not like some rows, by the value of a column."""

    def __init__(self, named=True, column="fix_type", bad="BAD"):
        self.named, self.column, self.value, self.schema = named, column, bad, None

    def __call__(self, message):
        request = Request.FromString(message)
        if request.arrow_rows.writer_schema.serialized_schema:
            buffer = pa.py_buffer(request.arrow_rows.writer_schema.serialized_schema)
            self.schema = pa.ipc.read_schema(buffer)
        data = pa.py_buffer(request.arrow_rows.rows.serialized_record_batch)
        batch = pa.ipc.read_record_batch(data, self.schema)
        known = self.column in batch.schema.names
        values = batch.column(self.column).to_pylist() if known else []
        bad = [(index, "no such fix") for index, one in enumerate(values) if one == self.value]
        words = "Errors found while processing rows"
        return said(3, words, rows=bad if self.named else ()) if bad else None


def as_given(rows):
    """What the view must hold after these rows alone."""
    return latest(GPS, rows.to_pylist())


@pytest.mark.parametrize(
    "fault",
    [
        Fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota of throughput"),
        Fail(grpc.StatusCode.UNAVAILABLE, "503"),
        Fail(grpc.StatusCode.ABORTED),
        Fail(grpc.StatusCode.DEADLINE_EXCEEDED),
        Fail(grpc.StatusCode.INTERNAL),
        Fail(grpc.StatusCode.CANCELLED),
        Close(),
        LoseAnswer(),
        always(code_pb2.RESOURCE_EXHAUSTED, "quota"),
        always(code_pb2.UNAVAILABLE),
        always(code_pb2.ABORTED),
        always(code_pb2.INTERNAL),
        always(code_pb2.FAILED_PRECONDITION, "finalized", CODES.STREAM_FINALIZED),
        always(code_pb2.INVALID_ARGUMENT, "state", CODES.INVALID_STREAM_STATE),
        always(code_pb2.NOT_FOUND, "no stream", CODES.STREAM_NOT_FOUND),
    ],
    ids=lambda fault: f"{type(fault).__name__}-{getattr(getattr(fault, 'code', None), 'name', '')}",
)
def test_what_passes_is_waited_out_and_every_row_is_kept(place, fault):
    sink = place.sink(GPS, batch_size=10)
    rows = many(GPS, 50)
    rule = place.storage.rule(APPEND, fault, first=3, times=2)
    written = sink.write(GPS, rows)
    assert rule.struck == 2
    assert (written.rows, written.refused.num_rows) == (50, 0)
    assert written.retries >= 1
    assert place.latest(GPS) == as_given(rows)


@pytest.mark.parametrize("seed", range(3))
def test_any_run_of_faults_ends_with_every_row_kept_or_refused_once(place, seed):
    chance, judge = random.Random(seed), Judge(named=seed != 1)
    passing = [
        Fail(grpc.StatusCode.UNAVAILABLE),
        Close(),
        LoseAnswer(),
        said(code_pb2.RESOURCE_EXHAUSTED),
        said(code_pb2.FAILED_PRECONDITION, "finalized", CODES.STREAM_FINALIZED),
        said(3, "more fields", CODES.SCHEMA_MISMATCH_EXTRA_FIELDS),
    ]

    def answer(message):
        verdict, fault = judge(message), chance.choice(passing)
        lets_bad_rows_in = verdict and isinstance(fault, LoseAnswer)
        return fault if chance.random() < 0.4 and not lets_bad_rows_in else verdict

    place.storage.rule(APPEND, Answer(answer))
    sink = place.sink(GPS, batch_size=7, max_in_flight_requests=3, max_retries=500)
    given = [row(GPS, n, **({"fix_type": "BAD"} if n % 23 == 5 else {})) for n in range(120)]
    written = sink.write(GPS, rows_of(GPS, *given))
    bad = [one["offset"] for one in given if one["fix_type"] == "BAD"]
    assert written.refused["source_offset"].to_pylist() == bad
    assert written.rows == 120 - len(bad)
    assert place.latest(GPS) == {part(GPS, one): one for one in given if one["fix_type"] != "BAD"}


def test_a_lost_answer_costs_rows_until_they_are_compacted_but_never_the_view(place):
    sink = place.sink(GPS)
    rows = many(GPS, 20)
    place.storage.rule(APPEND, LoseAnswer(), times=1)
    sink.write(GPS, rows)
    assert (place.count(GPS), place.latest(GPS)) == (40, as_given(rows))
    sink.compact(GPS, rows["event_time"][0].as_py().date())
    assert (place.count(GPS), place.latest(GPS)) == (20, as_given(rows))


@pytest.mark.parametrize(
    "answer",
    [
        said(code_pb2.ALREADY_EXISTS, "there"),
        said(code_pb2.ALREADY_EXISTS, "there", CODES.OFFSET_ALREADY_EXISTS),
    ],
    ids=["by code", "by detail"],
)
def test_what_exists_already_is_kept(place, answer):
    sink = place.sink(GPS)
    rule = place.storage.rule(APPEND, Answer(lambda message: answer))
    written = sink.write(GPS, many(GPS, 5))
    assert (written.rows, written.retries, rule.seen) == (5, 0, 1)


@pytest.mark.parametrize("named", [True, False], ids=["named", "not named"])
def test_bad_rows_among_good_ones_become_dead_letters_alone(place, named):
    sink = place.sink(GPS, batch_size=16)
    bad = {3, 4, 40}
    given = [row(GPS, n, **({"fix_type": "BAD"} if n in bad else {})) for n in range(50)]
    place.storage.rule(APPEND, Answer(Judge(named)))
    written = sink.write(GPS, rows_of(GPS, *given))
    letters = written.refused
    assert written.rows == 47
    assert letters["source_offset"].to_pylist() == [given[n]["offset"] for n in sorted(bad)]
    assert set(letters["stage"].to_pylist()) == {"SINK"}
    reason = "no such fix" if named else "Errors found"
    assert all(reason in words for words in letters["error_message"].to_pylist())
    assert place.latest(GPS) == {part(GPS, one): one for n, one in enumerate(given) if n not in bad}


def test_a_request_that_is_bad_whatever_the_rows_is_no_dead_letter(place):
    sink = place.sink(GPS)
    place.storage.rule(APPEND, always(code_pb2.INVALID_ARGUMENT, "schema is not for this table"))
    with pytest.raises(DependencyFailed, match="schema is not for this table"):
        sink.write(GPS, many(GPS, 50))


@pytest.mark.parametrize("answer", [None, Fail(grpc.StatusCode.INVALID_ARGUMENT, "a row is bad")])
def test_a_bad_row_without_neighbours_is_a_dead_letter(place, answer):
    """A sink that starts again at such a row would else never get past it."""
    sink, judge = place.sink(GPS), Judge(named=False)
    place.storage.rule(APPEND, Answer(lambda message: answer or judge(message)))
    bad = row(GPS, 1, fix_type="BAD")
    written = sink.write(GPS, rows_of(GPS, bad))
    assert (written.rows, written.refused["source_offset"].to_pylist()) == (0, [bad["offset"]])


def test_single_rows_are_refused_in_several_writes_until_the_request_is_doubted(place):
    sink, judge = place.sink(GPS), Judge(named=False)
    place.storage.rule(APPEND, Answer(judge))
    bad = [rows_of(GPS, row(GPS, n, fix_type="BAD")) for n in range(20)]
    for one in bad[:7]:
        assert sink.write(GPS, one).refused.num_rows == 1
    sink.write(GPS, many(GPS, 1, start=100))
    for one in bad[7:14]:
        assert sink.write(GPS, one).refused.num_rows == 1
    with pytest.raises(DependencyFailed, match="8 rows were refused, none was kept"):
        sink.write(GPS, bad[14])


def test_a_row_that_only_the_table_is_at_fault_for_is_no_dead_letter(place):
    sink = place.sink(GPS)
    client, name = sink.dataset.rest.client, sink.dataset.place(GPS)
    client.delete_table(name)
    other = google.Table(name, [google.SchemaField("event_date", "DATE"), HDOP_AS_TEXT])
    other.time_partitioning = google.TimePartitioning(field="event_date")
    client.create_table(other)
    place.storage.rule(APPEND, always(code_pb2.INVALID_ARGUMENT, "schema is not for this table"))
    with pytest.raises(DependencyFailed, match="column hdop is STRING"):
        sink.write(GPS, many(GPS, 1))


def test_finding_a_bad_row_costs_no_patience(place):
    sink, judge = place.sink(GPS, max_retries=0), Judge()
    breaking = Fail(grpc.StatusCode.INVALID_ARGUMENT, "a row is bad")
    place.storage.rule(APPEND, Answer(lambda message: breaking if judge(message) else None))
    given = [row(GPS, n, **({"fix_type": "BAD"} if n in (40, 41) else {})) for n in range(64)]
    written = sink.write(GPS, rows_of(GPS, *given))
    assert written.rows == 62
    assert written.refused["source_offset"].to_pylist() == [given[n]["offset"] for n in (40, 41)]


def test_patience_begins_anew_with_every_row_that_is_kept(place):
    sink = place.sink(GPS, max_retries=2, batch_size=1, max_in_flight_requests=1)
    rows, asked = many(GPS, 8), itertools.count()
    away = Fail(grpc.StatusCode.UNAVAILABLE)
    rule = Answer(lambda message: None if next(asked) % 3 == 2 else away)
    place.storage.rule(APPEND, rule)
    written = sink.write(GPS, rows)
    assert (written.rows, written.retries) == (8, 16)
    assert place.latest(GPS) == as_given(rows)


def test_answers_to_a_write_that_failed_are_not_taken_for_those_of_the_next(place):
    sink = place.sink(GPS, batch_size=1)
    place.storage.rule(APPEND, Answer(Judge(named=False)))
    with pytest.raises(DependencyFailed, match="19 rows were refused, none was kept"):
        sink.write(GPS, many(GPS, 19, fix_type="BAD"))
    rows = many(GPS, 5)
    written = sink.write(GPS, rows)
    assert (written.rows, written.refused.num_rows) == (5, 0)
    assert place.latest(GPS) == as_given(rows)


def test_a_stream_that_breaks_at_a_bad_row_is_opened_again_without_it(place):
    sink = place.sink(GPS, batch_size=4)
    judge = Judge()
    given = [row(GPS, n, **({"fix_type": "BAD"} if n == 6 else {})) for n in range(12)]
    breaking = Fail(grpc.StatusCode.INVALID_ARGUMENT, "a row is bad")
    place.storage.rule(APPEND, Answer(lambda message: breaking if judge(message) else None))
    written = sink.write(GPS, rows_of(GPS, *given))
    assert written.rows == 11
    assert written.refused["source_offset"].to_pylist() == [given[6]["offset"]]
    assert place.latest(GPS) == {part(GPS, one): one for n, one in enumerate(given) if n != 6}


@pytest.mark.parametrize("mode", ["storage_write", "insert_rows"])
def test_a_table_that_is_deleted_is_made_again_and_written(place, mode):
    sink = place.sink(GPS, mode=mode)
    sink.write(GPS, many(GPS, 5))
    sink.dataset.rest.client.delete_table(sink.dataset.place(GPS))
    rows = many(GPS, 20, seed=1)
    written = sink.write(GPS, rows)
    assert (written.rows, written.refused.num_rows) == (20, 0)
    assert place.latest(GPS) == as_given(rows)


def test_a_dataset_that_is_deleted_is_made_again_and_written(place):
    sink = place.sink(GPS)
    client = sink.dataset.rest.client
    client.delete_dataset(sink.dataset.rest.dataset, delete_contents=True)
    rows = many(GPS, 20)
    sink.write(GPS, rows)
    assert place.latest(GPS) == as_given(rows)


def test_columns_that_are_not_known_everywhere_yet_are_waited_for(place):
    sink = place.sink(GPS, batch_size=10)
    rows = many(GPS, 50)
    fault = always(3, "Input schema has more fields", CODES.SCHEMA_MISMATCH_EXTRA_FIELDS)
    rule = place.storage.rule(APPEND, fault, times=12)
    written = sink.write(GPS, rows)
    assert (rule.struck, written.rows, written.refused.num_rows) == (12, 50, 0)
    assert place.latest(GPS) == as_given(rows)


def test_what_is_not_allowed_is_said_at_once_and_is_no_dead_letter(place):
    sink = place.sink(GPS)
    words = "Permission 'TABLES_UPDATE_DATA' denied on resource"
    rule = place.storage.rule(APPEND, Fail(grpc.StatusCode.PERMISSION_DENIED, words))
    with pytest.raises(DependencyFailed, match=r"TABLES_UPDATE_DATA.*tables\.updateData"):
        sink.write(GPS, many(GPS, 5))
    assert rule.struck == 1


def test_patience_ends_with_the_last_reason(place):
    sink = place.sink(GPS, max_retries=2)
    rule = place.storage.rule(APPEND, Fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota"))
    with pytest.raises(DependencyFailed, match=r"2 retries.*RESOURCE_EXHAUSTED: quota"):
        sink.write(GPS, many(GPS, 5))
    assert rule.struck == 3


def test_a_server_that_never_answers_is_asked_again(place):
    sink = place.sink(GPS, request_timeout_s=0.5)
    rows = many(GPS, 5)
    place.storage.rule(APPEND, Delay(60), times=1)
    began = time.monotonic()
    sink.write(GPS, rows)
    assert time.monotonic() - began < 60
    assert place.latest(GPS) == as_given(rows)


def test_an_idle_connection_that_was_closed_is_opened_again_without_a_retry(place):
    sink = place.sink(GPS)
    sink.write(GPS, many(GPS, 5))
    place.storage.close()
    place.storage.start()
    connection = sink._connections[GPS.name]
    connection._reader.join()
    assert sink.write(GPS, many(GPS, 5, start=5)).rows == 5
    assert len(place.latest(GPS)) == 10


@pytest.mark.parametrize("mode", ["storage_write", "insert_rows"])
def test_an_outage_is_waited_out_and_the_write_goes_on_when_it_ends(place, mode):
    proxy = place.storage if mode == "storage_write" else place.rest
    sink = place.sink(GPS, mode=mode, batch_size=5)
    sink.write(GPS, many(GPS, 5))
    proxy.close()
    back = threading.Timer(1.0, proxy.start)
    back.start()
    rows = many(GPS, 50)
    written = sink.write(GPS, rows)
    back.join()
    assert (written.rows, written.refused.num_rows) == (50, 0)
    assert written.retries >= 1
    assert place.latest(GPS) == as_given(rows)


def refusal(status, reason, words=""):
    """An HTTP answer of BigQuery's."""
    error = {"code": status, "message": words, "errors": [{"reason": reason, "message": words}]}
    return http.Answer(status, orjson.dumps({"error": error}), JSON)


PASSING = [
    refusal(403, "quotaExceeded"),
    refusal(403, "rateLimitExceeded"),
    refusal(429, "rateLimitExceeded"),
    refusal(500, "internalError"),
    refusal(503, "backendError"),
    http.Reset(),
    http.LoseAnswer(),
]
NAMES = ["403 quota", "403 rate", "429", "500", "503", "reset", "lost answer"]


@pytest.mark.parametrize("fault", PASSING, ids=NAMES)
def test_tables_are_made_through_trouble(place, fault):
    rule = place.rest.rule("POST", TABLES, fault, times=2)
    sink = place.sink(GPS)
    assert rule.struck == 2
    sink.write(GPS, many(GPS, 5))
    assert len(place.latest(GPS)) == 5


@pytest.mark.parametrize("fault", PASSING, ids=NAMES)
def test_rows_are_inserted_through_trouble(place, fault):
    sink = place.sink(GPS, mode="insert_rows", batch_size=10)
    rows = many(GPS, 30)
    rule = place.rest.rule("POST", INSERT, fault, first=2, times=2)
    written = sink.write(GPS, rows)
    assert (rule.struck, written.retries) == (2, 2)
    assert (written.rows, written.refused.num_rows) == (30, 0)
    assert place.latest(GPS) == as_given(rows)


def test_what_is_not_allowed_at_all_names_the_permission(place):
    words = "Permission bigquery.tables.create denied on dataset"
    place.rest.rule("POST", TABLES, refusal(403, "accessDenied", words))
    with pytest.raises(DependencyFailed, match=r"bigquery\.tables\.create denied"):
        place.sink(GPS)


def inserted(*errors):
    """insertAll took all rows but these: (index, reason, words)."""
    entries = [
        {"index": index, "errors": [{"reason": reason, "message": words}]}
        for index, reason, words in errors
    ]
    return http.Rewrite(lambda _: orjson.dumps({"insertErrors": entries}))


def test_bad_rows_of_an_insert_become_dead_letters_and_passing_ones_go_again(place):
    sink = place.sink(GPS, mode="insert_rows")
    errors = [(1, "invalid", "no such fix"), (2, "stopped", ""), (4, "backendError", "")]
    rule = place.rest.rule("POST", INSERT, inserted(*errors), times=1)
    rows = many(GPS, 6)
    written = sink.write(GPS, rows)
    assert (written.rows, written.retries, rule.seen) == (5, 1, 2)
    assert written.refused["source_offset"].to_pylist() == [rows["offset"][1].as_py()]
    assert "no such fix" in written.refused["error_message"][0].as_py()


def test_columns_that_an_insert_does_not_know_yet_are_waited_for(place):
    sink = place.sink(GPS, mode="insert_rows")
    errors = [(0, "invalid", "no such field: hdop."), (1, "invalid", "no such field: hdop.")]
    place.rest.rule("POST", INSERT, inserted(*errors), times=3)
    written = sink.write(GPS, many(GPS, 2))
    assert (written.rows, written.retries, written.refused.num_rows) == (2, 3, 0)


def test_a_sink_of_another_store_in_trouble_is_not_held_up(place):
    troubled = place.sink(GPS, max_retries=200)
    other = place.sink(GPS, mode="insert_rows")
    place.storage.rule(APPEND, Fail(grpc.StatusCode.UNAVAILABLE))
    writing = threading.Thread(target=lambda: troubled.write(GPS, many(GPS, 5)))
    writing.start()
    assert other.write(GPS, many(GPS, 5, start=5)).rows == 5
    assert writing.is_alive()
    place.storage.clear()
    writing.join()
    assert len(place.latest(GPS)) == 10


@pytest.mark.long
def test_a_store_that_is_killed_and_started_again_holds_every_row_once():
    with server_folder() as folder:
        server = BigQuery(folder / "bigquery", CACHE, free_port(BigQuery.span))
        with running(server):
            sink = BigQuerySink(
                BigQuerySettings(
                    **server.settings,
                    batch_size=5,
                    max_retries=1_000,
                    retry_backoff_ms=50,
                    retry_backoff_max_ms=500,
                )
            )
            sink.prepare([GPS])
            rows = many(GPS, 400)
            writing = threading.Thread(
                target=lambda: [
                    sink.write(GPS, rows.slice(start, 10)) for start in range(0, 400, 10)
                ]
            )
            writing.start()
            for _ in range(2):
                time.sleep(0.5)
                server.kill()
                server.start()
                server.ready()
            writing.join()
            query = f"SELECT COUNT(*) n FROM odograph.{GPS.name}_latest"
            (counted,) = sink.dataset.rest.client.query(query).result()
            assert counted["n"] == 400
            sink.close()
