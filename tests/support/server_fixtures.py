"""One fixture a server, started at its first use and stopped at the end of the test run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.artefacts import java_runtime
from runners.stack.processes import free_port
from runners.stack.servers.bigquery import BigQuery
from runners.stack.servers.elasticsearch import Elasticsearch
from runners.stack.servers.flink import Flink
from runners.stack.servers.kafka import Kafka
from runners.stack.servers.postgres import Postgres
from runners.stack.servers.registry import Registry
from runners.stack.servers.s3 import S3
from tests.support.kafka import ChangedKafka
from tests.support.servers import CACHE, running, server_folder


@pytest.fixture(scope="session")
def servers() -> Iterator[Path]:
    """The folder with one folder a server."""
    with server_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def kafka(servers: Path) -> Iterator[Kafka]:
    """A Kafka node; tests make topics of their own."""
    with running(ChangedKafka(servers / "kafka", CACHE, free_port(Kafka.span))) as server:
        yield server


@pytest.fixture(scope="session")
def registry(servers: Path) -> Iterator[Registry]:
    """A schema registry."""
    with running(Registry(servers / "registry", CACHE, free_port(Registry.span))) as server:
        yield server


@pytest.fixture(scope="session")
def postgres(servers: Path) -> Iterator[Postgres]:
    """A Postgres server with an empty database `fleet`."""
    with running(Postgres(servers / "postgres", CACHE, free_port(Postgres.span))) as server:
        yield server


@pytest.fixture(scope="session")
def s3(servers: Path) -> Iterator[S3]:
    """An S3 server without buckets."""
    with running(S3(servers / "s3", CACHE, free_port(S3.span))) as server:
        yield server


@pytest.fixture(scope="session")
def bigquery(servers: Path) -> Iterator[BigQuery]:
    """A BigQuery emulator; tests make datasets of their own."""
    with running(BigQuery(servers / "bigquery", CACHE, free_port(BigQuery.span))) as server:
        yield server


@pytest.fixture(scope="session")
def elasticsearch(servers: Path) -> Iterator[Elasticsearch]:
    """An Elasticsearch node that lets everybody in; tests use index prefixes of their own."""
    server = Elasticsearch(
        servers / "elasticsearch",
        CACHE,
        free_port(Elasticsearch.span),
        java_options=java_runtime.LIGHT,
    )
    with running(server):
        yield server


@pytest.fixture(scope="session")
def flink(servers: Path) -> Iterator[Flink]:
    """A Flink cluster of two TaskManagers with four slots each; its processes use the S3
    fixture's credentials where there is one."""
    server = Flink(
        servers / "flink",
        CACHE,
        free_port(Flink.span),
        task_managers=2,
        memory="3072m",
        options={"env.java.opts.taskmanager": java_runtime.QUICK},
        env={"AWS_SHARED_CREDENTIALS_FILE": str(servers / "s3" / "credentials")},
    )
    with running(server):
        yield server
