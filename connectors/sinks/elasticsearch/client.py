"""Requests to a cluster, and what its answers and silences mean."""

from __future__ import annotations

import ssl
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import elastic_transport
import orjson
from elasticsearch import ApiError, Elasticsearch, JsonSerializer, UnsupportedProductError

from connectors.errors import BadSettings, DependencyFailed
from connectors.retries import TransientError
from connectors.settings import secret
from connectors.sinks.elasticsearch.settings import ElasticsearchSettings

PASSING = {408, 429, 500, 502, 503, 504}
FORBIDDING = {401, 403, 407}
GZIP, FASTEST = 31, 1
_JSON, _LINES = "application/json", "application/x-ndjson"
_COMPATIBLE = "application/vnd.elasticsearch+{}; compatible-with=8"
"""Nodes of version 8 speak it, and those of 9, which may stand beside them during an upgrade."""
_NOT_SPOKEN = "media_type_header_exception"


class RequestRejected(Exception):
    """The cluster will not take the request as it is: `status`, and `type` and `reason` of it."""

    def __init__(self, status: int, kind: str, reason: str) -> None:
        super().__init__(f"HTTP {status} {kind}: {reason}".rstrip(": "))
        self.status, self.kind, self.reason = status, kind, reason


class _AsItIs(JsonSerializer):
    """Bodies are bytes already; answers are read by orjson."""

    mimetype = "application/vnd.elasticsearch+json"

    def dumps(self, data: Any) -> bytes:
        return bytes(data)

    def loads(self, data: bytes) -> Any:
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            return data[:200].decode(errors="replace")


@dataclass(frozen=True)
class Connection:
    """A cluster. Made by `connect`."""

    settings: ElasticsearchSettings
    client: Elasticsearch

    @property
    def shown(self) -> str:
        """The cluster, for messages."""
        return f"elasticsearch {', '.join(self.settings.hosts)}"

    def lines(self, path: str, body: Any) -> dict[str, Any]:
        """What the cluster answers to lines of JSON. Raises as `ask`."""
        headers = {"content-type": _COMPATIBLE.format("x-ndjson")}
        if self.settings.compress:
            packing = zlib.compressobj(FASTEST, wbits=GZIP)
            body = packing.compress(body) + packing.flush()
            headers["content-encoding"] = "gzip"
        return self._once("POST", path, body, headers)

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """What the cluster answers; `body` becomes JSON.

        Raises TransientError where asking again may help, DependencyFailed where somebody must act
        first (who we are, whom we trust), RequestRejected for any other refusal."""
        headers = {} if body is None else {"content-type": _COMPATIBLE.format("json")}
        return self._once(method, path, None if body is None else orjson.dumps(body), headers)

    def close(self) -> None:
        """Close its connections."""
        self.client.close()

    def _once(self, method: str, path: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        accepting = {"accept": _COMPATIBLE.format("json"), **headers}
        request = f"{self.shown}: {method} {path.partition('?')[0]}"
        try:
            answer = self.client.perform_request(method, path, headers=accepting, body=body).body
        except UnsupportedProductError:
            raise DependencyFailed(
                f"{request}: what answers there is not Elasticsearch; check "
                "sinks.elasticsearch.hosts"
            ) from None
        except ApiError as error:
            raise self._refusal(request, error) from None
        except elastic_transport.TransportError as error:
            if _distrusts(error):
                raise DependencyFailed(
                    f"{request}: no trust could be made: {error.message}; check "
                    "sinks.elasticsearch.ca_file and the certificate of the hosts"
                ) from None
            reason = f"{type(error).__name__}: {error.message}"
            raise TransientError(
                f"{request}: {reason}; see that it runs and can be reached"
            ) from None
        if not isinstance(answer, dict):
            raise TransientError(
                f"{request}: an answer that is no JSON object; see what stands before it"
            )
        return answer

    def _refusal(self, request: str, error: ApiError) -> Exception:
        status = error.meta.status
        kind, reason = _told(error.body)
        words = f"{request}: HTTP {status} {kind}: {reason}".rstrip(": ")
        if status in FORBIDDING:
            return DependencyFailed(
                f"{words}; check sinks.elasticsearch.api_key, or user and password, and that they "
                "may write these indices"
            )
        if kind == _NOT_SPOKEN:
            return DependencyFailed(f"{words}; it takes an Elasticsearch of version 8 or 9")
        if status in PASSING:
            return TransientError(f"{words}; see how it fares")
        return RequestRejected(status, kind, reason)


def connect(settings: ElasticsearchSettings) -> Connection:
    """A cluster; nothing is asked of it yet. Raises BadSettings, MissingSecret."""
    if not settings.hosts:
        raise BadSettings("sinks.elasticsearch.hosts is not set: give http(s)://host:port")
    if settings.ca_file and not Path(settings.ca_file).is_file():
        raise BadSettings(f"sinks.elasticsearch.ca_file {settings.ca_file}: there is no such file")
    way: dict[str, Any] = {}
    if settings.api_key:
        way["api_key"] = secret(settings.api_key)
    elif settings.user and settings.password:
        way["basic_auth"] = (settings.user, secret(settings.password))
    if settings.ca_file:
        way["ca_certs"] = settings.ca_file
    as_it_is = _AsItIs()
    mimetypes = (
        _JSON,
        _LINES,
        *(f"application/vnd.elasticsearch+{n}" for n in ("json", "x-ndjson")),
    )
    client = Elasticsearch(
        [_with_port(host) for host in settings.hosts],
        serializers=dict.fromkeys(mimetypes, as_it_is),
        request_timeout=settings.request_timeout_s,
        connections_per_node=settings.max_in_flight_requests,
        max_retries=0,
        retry_on_timeout=False,
        **way,
    )
    return Connection(settings, client)


def _with_port(host: str) -> str:
    """The client wants every port said."""
    scheme, _, rest = host.rstrip("/").partition("://")
    name, slash, path = rest.partition("/")
    if ":" not in name.rpartition("]")[2]:
        name += ":443" if scheme == "https" else ":80"
    return f"{scheme}://{name}{slash}{path}"


def _distrusts(error: elastic_transport.TransportError) -> bool:
    """Whether a certificate was refused; a handshake may also be broken off."""
    cause = error.__cause__
    reasons = [cause, *cause.args] if cause else []
    return any(isinstance(reason, ssl.SSLCertVerificationError) for reason in reasons)


def _told(body: Any) -> tuple[str, str]:
    """Type and reason of a refusal."""
    error = body.get("error") if isinstance(body, dict) else body
    if isinstance(error, dict):
        return str(error.get("type", "")), str(error.get("reason", ""))
    return "", str(error or "")[:200]
