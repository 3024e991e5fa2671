"""Fixtures of all tests."""

from tests.support.server_fixtures import (
    bigquery,
    elasticsearch,
    flink,
    kafka,
    postgres,
    registry,
    s3,
    servers,
)

__all__ = ["bigquery", "elasticsearch", "flink", "kafka", "postgres", "registry", "s3", "servers"]
