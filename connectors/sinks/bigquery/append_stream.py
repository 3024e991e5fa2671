"""A connection to the default stream of one table: appends go out, answers come back in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types

from connectors.sinks.bigquery.errors import Answer, of_append, of_broken

METHOD = "/google.cloud.bigquery.storage.v1.BigQueryWrite/AppendRows"
TRACE = "odograph"
_Request = types.AppendRowsRequest.pb()
_Response = types.AppendRowsResponse.pb()


class Broken(Exception):
    """The connection ended before an answer; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.words)
        self.answer = answer


def request(stream: str, batch: pa.RecordBatch, with_schema: bool) -> bytes:
    """An AppendRowsRequest."""
    made = _Request(write_stream=stream)
    if with_schema:
        made.trace_id = TRACE
        schema = batch.schema.serialize().to_pybytes()
        made.arrow_rows.writer_schema.serialized_schema = schema
    made.arrow_rows.rows.serialized_record_batch = batch.serialize().to_pybytes()
    return bytes(made.SerializeToString())


class Connection:
    """Open until `close` or until the other side ends it. `schema_known` when the other side has
    kept rows of it, so that their schema need not be said again."""

    def __init__(self, channel: grpc.Channel, stream: str) -> None:
        self.stream = stream
        self.schema_known = False
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Answer | Broken] = queue.SimpleQueue()
        start: grpc.StreamStreamMultiCallable[bytes, Any] = channel.stream_stream(
            METHOD, response_deserializer=_Response.FromString
        )
        routing = (("x-goog-request-params", f"write_stream={stream}"),)
        self._call = start(self._requests(), metadata=routing)
        self._reader = threading.Thread(target=self._read, name="bigquery-answers", daemon=True)
        self._reader.start()

    @property
    def ended(self) -> bool:
        """Whether nothing can be sent any more."""
        return not self._reader.is_alive()

    def send(self, data: bytes) -> None:
        """Put a request on its way."""
        self._outgoing.put(data)

    def answer(self, timeout_s: float) -> Answer:
        """The answer to the oldest request without one. Raises Broken."""
        try:
            found = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise Broken(Answer("later", f"no answer within {timeout_s:g} s")) from None
        if isinstance(found, Broken):
            raise found
        self.schema_known |= found.meaning == "kept"
        return found

    def close(self) -> None:
        """End it; what has no answer yet may still be kept."""
        self._outgoing.put(None)
        self._call.cancel()
        self._reader.join()

    def _requests(self) -> Iterator[bytes]:
        return iter(self._outgoing.get, None)

    def _read(self) -> None:
        try:
            for response in self._call:
                self._answers.put(of_append(response))
            ended = Answer("later", "the stream was closed")
        except grpc.RpcError as error:
            ended = of_broken(error)
        except Exception as error:
            ended = Answer("later", f"{type(error).__name__}: {error}")
        self._outgoing.put(None)
        self._answers.put(Broken(ended))


def stream_of(place: str) -> str:
    """Name of the default stream of project.dataset.table."""
    project, dataset, table = place.rsplit(".", 2)
    return f"projects/{project}/datasets/{dataset}/tables/{table}/streams/_default"
