"""Clients of BigQuery: REST, and a channel to its Storage API."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1.services.big_query_write import transports

from connectors.errors import BadSettings
from connectors.retries import with_retries
from connectors.sinks.bigquery.errors import of_rest
from connectors.sinks.bigquery.settings import BigQuerySettings

Done = TypeVar("Done")
POLL_S = 1.0
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Waiting is ours: a channel that waits longer would sleep through the end of an outage.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
]


class RestClient:
    """REST calls to one project, each asked again with patience. Raises BadSettings,
    DependencyFailed (no credentials)."""

    def __init__(self, settings: BigQuerySettings) -> None:
        if settings.project is None:
            raise BadSettings(
                "sinks.bigquery.project is not set: give the project the dataset lies in"
            )
        self.settings = settings
        options = {"api_endpoint": settings.api_endpoint} if settings.api_endpoint else None
        try:
            self.client = bigquery.Client(
                project=settings.project,
                location=settings.location,
                credentials=AnonymousCredentials() if settings.insecure else None,
                client_options=options,
            )
        except GoogleAuthError as error:
            raise of_rest(error, f"BigQuery project {settings.project}") from None

    @property
    def dataset(self) -> str:
        """project.dataset"""
        return f"{self.settings.project}.{self.settings.dataset}"

    def once(self, doing: str, call: Callable[..., Done], *given: Any, **options: Any) -> Done:
        """One call of a client's method, without the client's own retries. Raises Passing,
        Missing, Exists, DependencyFailed."""
        patience = {"retry": None, "timeout": self.settings.request_timeout_s}
        return self.asked(doing, lambda: call(*given, **patience, **options))

    def asked(self, doing: str, call: Callable[[], Done]) -> Done:
        """As `once`, for a call that brings its own patience."""
        try:
            return call()
        except Exception as error:
            meant = of_rest(error, f"BigQuery {self.dataset}: {doing}")
            if meant is error:
                raise
            raise meant from None

    def call(self, doing: str, call: Callable[..., Done], *given: Any, **options: Any) -> Done:
        """As `once`, asked again for as long as settings say. Raises Missing, Exists,
        DependencyFailed."""
        return with_retries(self.settings, lambda: self.once(doing, call, *given, **options))

    def end_of(self, job: Any) -> dict[str, str] | None:
        """Wait for a job's end; why it failed, or None. Raises DependencyFailed."""
        while not self.call(f"look at job {job.job_id}", job.done):
            time.sleep(POLL_S)
        return job.error_result  # type: ignore[no-any-return]

    def close(self) -> None:
        """Let go of connections."""
        self.client.close()


def storage_channel(settings: BigQuerySettings) -> grpc.Channel:
    """A channel to the Storage API. Raises DependencyFailed (no credentials)."""
    if settings.insecure:
        assert settings.storage_endpoint is not None
        return grpc.insecure_channel(settings.storage_endpoint, options=_CHANNEL)
    transport = transports.BigQueryWriteGrpcTransport
    host = settings.storage_endpoint or transport.DEFAULT_HOST
    try:
        return transport.create_channel(host, options=_CHANNEL)
    except GoogleAuthError as error:
        raise of_rest(error, f"BigQuery Storage API at {host}") from None
