"""Fixtures of all tests."""

from tests.servers.fixtures import flink, kafka, postgres, registry, s3, servers

__all__ = ["flink", "kafka", "postgres", "registry", "s3", "servers"]
