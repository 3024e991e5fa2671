"""A dataset of its own for each test, reached through proxies on which anything can go wrong."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.bigquery.sink import BigQuerySink
from runners.stack.faults.grpc_proxy import GrpcFaultProxy
from runners.stack.faults.http_proxy import FaultProxy
from runners.stack.servers.bigquery import PROJECT
from tests.connectors.sinks.bigquery.rows import part

NUMBERS = itertools.count()


@dataclass
class Place:
    """A dataset, the proxies before it, and sinks that are closed after the test."""

    rest: FaultProxy
    storage: GrpcFaultProxy
    dataset: str
    address: str
    sinks: list = field(default_factory=list)

    def sink(self, *tables, **settings):
        """A sink that has prepared these tables."""
        quick = {"retry_backoff_ms": 10, "retry_backoff_max_ms": 200, "max_retries": 30}
        made = BigQuerySink(
            BigQuerySettings(
                project=PROJECT,
                dataset=self.dataset,
                api_endpoint=self.rest.url,
                storage_endpoint=self.storage.address,
                insecure=True,
                **{**quick, **settings},
            )
        )
        self.sinks.append(made)
        made.prepare(tables)
        return made

    def query(self, sql):
        """What a query answers, its tables named without a dataset."""
        client = self.sinks[0].dataset.rest.client
        text = sql.replace("FROM ", f"FROM {self.dataset}.")
        return [dict(one) for one in client.query(text, retry=None, job_retry=None).result()]

    def count(self, table):
        """How many rows were ever written and not compacted."""
        return self.query(f"SELECT COUNT(*) n FROM {table.name}")[0]["n"]

    def latest(self, table, where="TRUE"):
        """Rows of the view by date and key, as they were given; none twice."""
        found = self.query(f"SELECT * FROM {table.name}_latest WHERE {where}")
        given = [_as_given(one) for one in found]
        by_key = {part(table, one): one for one in given}
        assert len(by_key) == len(given)
        return by_key


@pytest.fixture(scope="session")
def bigquery_proxies(bigquery):
    with FaultProxy(bigquery.address) as rest, GrpcFaultProxy(bigquery.storage) as storage:
        yield rest, storage


@pytest.fixture
def place(bigquery, bigquery_proxies):
    rest, storage = bigquery_proxies
    made = Place(rest, storage, f"facts_{next(NUMBERS)}", bigquery.address)
    yield made
    rest.clear()
    storage.clear()
    for sink in made.sinks:
        sink.close()


def _as_given(one):
    """Pairs of a map as tuples; no view has `gone`, and dates are derived."""
    row = {name: value for name, value in one.items() if name != "event_date"}
    if "extras" in row:
        row["extras"] = [(pair["key"], pair["value"]) for pair in row["extras"]]
    return row | {"gone": False}
