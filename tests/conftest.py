"""Fixtures of all tests, and the lot each test belongs to."""

import pytest

from tests.support.lots import sort_into_lots
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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    sort_into_lots(config, items)
