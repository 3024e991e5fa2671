"""What BigQuery's answers mean to who writes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import grpc
import requests
from google.api_core import exceptions
from google.auth import exceptions as auth
from google.cloud.bigquery_storage_v1 import types
from google.rpc import code_pb2
from grpc_status import rpc_status

from connectors.errors import DependencyFailed
from connectors.retries import TransientError

Meaning = Literal["kept", "later", "no table", "old schema", "denied", "bad rows", "bad request"]
"""`kept`: the store has the rows. `later`: ask again. `no table`, `old schema`: the table or
columns are not there, or not yet known everywhere. `bad rows`: none was kept, some are named."""

_CODES = types.StorageError.StorageErrorCode
_BY_ERROR: dict[int, Meaning] = {
    _CODES.TABLE_NOT_FOUND: "no table",
    _CODES.SCHEMA_MISMATCH_EXTRA_FIELDS: "old schema",
    _CODES.OFFSET_ALREADY_EXISTS: "kept",
    _CODES.STREAM_NOT_FOUND: "no table",
    _CODES.STREAM_FINALIZED: "later",
    _CODES.STREAM_ALREADY_COMMITTED: "later",
    _CODES.INVALID_STREAM_STATE: "later",
}
_BY_CODE: dict[int, Meaning] = {
    code_pb2.OK: "kept",
    code_pb2.ALREADY_EXISTS: "kept",
    code_pb2.NOT_FOUND: "no table",
    code_pb2.PERMISSION_DENIED: "denied",
    code_pb2.UNAUTHENTICATED: "denied",
    code_pb2.INVALID_ARGUMENT: "bad request",
    code_pb2.OUT_OF_RANGE: "bad request",
    code_pb2.UNIMPLEMENTED: "bad request",
}
PASSING_REASONS = frozenset(
    {
        "backendError", "badGateway", "internalError", "jobBackendError", "jobInternalError",
        "jobRateLimitExceeded", "quotaExceeded", "rateLimitExceeded", "stopped", "timeout",
        "userRateLimitExceeded",
    }
)  # fmt: skip
"""Reasons in errors of REST calls, rows and jobs that pass."""
_MAY_NOT_EXIST = "may not exist"
_BUFFERED = "streaming buffer"
_CONCURRENT = "could not serialize access"
_OF_ROWS = frozenset({"invalid", "invalidQuery"})
_OF_COLUMNS = "provided schema"
_TOO_LARGE = "row that is too large"


@dataclass(frozen=True)
class Answer:
    """To one request; `words` say which code and why, `rows` why each bad row by its index."""

    meaning: Meaning
    words: str
    rows: dict[int, str] = field(default_factory=dict)


class Missing(Exception):
    """There is no such dataset, table or view."""


class Exists(Exception):
    """Somebody made it before us, or changed it since we looked."""


class Buffered(Exception):
    """Rows were streamed a short while ago, and no statement may change them yet."""


class RowsRefused(DependencyFailed):
    """A job took no row because of what is in some of them, and names none."""


def of_append(response: Any) -> Answer:
    """The meaning of an AppendRowsResponse."""
    rows = {error.index: error.message for error in response.row_errors}
    answer = of_status(response.error.code, response.error.message, response.error.details)
    return Answer("bad rows", answer.words, rows) if rows else answer


def of_broken(error: grpc.RpcError) -> Answer:
    """The meaning of a stream that ended with an error; nothing is known then of what was sent."""
    status = None
    if isinstance(error, grpc.Call):
        with suppress(ValueError):
            status = rpc_status.from_call(error)
    code = error.code().value[0]
    answer = of_status(code, error.details() or "", status.details if status else ())
    return Answer("later", answer.words) if answer.meaning == "kept" else answer


def of_status(code: int, message: str, details: Any) -> Answer:
    """The meaning of a google.rpc.Status. A table that is not there and one that may not be seen
    are told apart by who asks next."""
    words = f"{_name(code)}: {message}".rstrip(": ")
    found = types.StorageError.pb()()
    for detail in details:
        if detail.Is(found.DESCRIPTOR) and detail.Unpack(found) and found.code in _BY_ERROR:
            return Answer(_BY_ERROR[found.code], words)
    meaning = _BY_CODE.get(code, "later")
    if meaning == "denied" and _MAY_NOT_EXIST in message:
        meaning = "no table"
    return Answer(meaning, words)


def of_rest(error: Exception, doing: str) -> Exception:
    """What a failed REST call is to its caller: TransientError, Missing, Exists, Buffered or
    DependencyFailed."""
    if isinstance(error, exceptions.GoogleAPICallError):
        return _of_http(error, doing)
    if isinstance(error, auth.DefaultCredentialsError):
        return DependencyFailed(
            f"{doing}: no credentials; give Application Default Credentials, such as a service "
            "account of the machine or GOOGLE_APPLICATION_CREDENTIALS"
        )
    if isinstance(error, auth.RefreshError) and not error.retryable:
        return DependencyFailed(f"{doing}: the credentials are refused: {error}")
    passing = (requests.RequestException, ConnectionError, TimeoutError, auth.GoogleAuthError)
    if isinstance(error, (*passing, exceptions.RetryError)):
        return TransientError(f"{doing}: {type(error).__name__}: {error}")
    return error


def of_job(reason: str, words: str) -> Exception:
    """What a job that failed is to who waited for it: TransientError, Buffered, RowsRefused or
    DependencyFailed."""
    meant = _of_reason(reason, words)
    said = words.lower()
    of_rows = (reason in _OF_ROWS and _OF_COLUMNS not in said) or _TOO_LARGE in said
    return RowsRefused(words) if of_rows and isinstance(meant, DependencyFailed) else meant


def _of_reason(reason: str, words: str) -> Exception:
    if _BUFFERED in words.lower():
        return Buffered(words)
    passes = reason in PASSING_REASONS or _CONCURRENT in words.lower()
    return TransientError(words) if passes else DependencyFailed(words)


def _of_http(error: exceptions.GoogleAPICallError, doing: str) -> Exception:
    code = int(error.code or 0)
    reason = str(error.errors[0].get("reason", "")) if error.errors else ""
    words = f"{doing}: HTTP {code} {reason} {error.message}".replace("  ", " ")
    if code == 404:
        return Missing(words)
    if code in (409, 412):
        return Exists(words)
    if code == 429 or code >= 500 or code == 408 or reason in PASSING_REASONS:
        return TransientError(words)
    if code in (401, 403):
        return DependencyFailed(f"{words}; grant it, or use other credentials")
    return _of_reason(reason, words)


def _name(code: int) -> str:
    try:
        return str(code_pb2.Code.Name(code))
    except ValueError:
        return f"code {code}"
