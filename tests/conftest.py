"""Fixtures of all tests."""

from tests.servers.fixtures import bigquery, flink, kafka, postgres, registry, s3, servers

__all__ = ["bigquery", "flink", "kafka", "postgres", "registry", "s3", "servers"]
