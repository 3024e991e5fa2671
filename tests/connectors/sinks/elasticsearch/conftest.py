"""A node for these tests, and index prefixes of their own."""

import itertools
import json
import urllib.error
from dataclasses import dataclass
from datetime import datetime

import pytest

from connectors.sinks.elasticsearch.settings import ElasticsearchSettings
from connectors.sinks.elasticsearch.sink import ElasticsearchSink
from runners.stack.faults.http_proxy import FaultProxy
from runners.stack.servers.elasticsearch import Elasticsearch
from tests.connectors.sinks.elasticsearch.rows import GPS, LOG, NOON

_NUMBERS = itertools.count(1)


@dataclass
class Store:
    """A prefix of a node, its sink, and what is seen there without it. For its sinks it is `time`
    o'clock."""

    node: Elasticsearch
    prefix: str
    host: str
    sinks: list
    time: datetime = NOON

    def sink(self, **settings):
        """A sink that is prepared for it."""
        made = ElasticsearchSink(self.settings(**settings), now=lambda: self.time)
        self.sinks.append(made)
        made.prepare([GPS, LOG])
        return made

    def settings(self, **given):
        quick = {"retry_backoff_ms": 20, "retry_backoff_max_ms": 200, "max_retries": 8}
        fixed = {"hosts": (self.host,), "index_prefix": self.prefix, "replicas": 0}
        return ElasticsearchSettings(**{**fixed, **quick, **given})

    def ask(self, method, path, body=None):
        """What the node answers to anybody; the path gets the prefix."""
        data = None if body is None else json.dumps(body).encode()
        return json.loads(self.node.ask(method, f"/{self.prefix}{path}", data))

    def documents(self, indices="telemetry-*"):
        """All documents by index and _id."""
        self.ask("POST", f"{indices}/_refresh")
        found = self.ask("GET", f"{indices}/_search?size=10000&version=true")["hits"]["hits"]
        return {(hit["_index"].removeprefix(self.prefix), hit["_id"]): hit for hit in found}

    def held(self, table):
        """As tests.…rows.oracle, which it must equal. A key that lies twice is an error."""
        base = table.name.replace("_", "-")
        found = self.documents(f"{base}-*")
        held = {
            _day_and_key(index.removeprefix(f"{base}-"), key): hit["_version"]
            for (index, key), hit in found.items()
        }
        assert len(held) == len(found)
        return held

    def roll_over(self, table):
        """As a policy does it; the new generation."""
        answer = self.ask("POST", f"{table.name.replace('_', '-')}/_rollover")
        return answer["new_index"].removeprefix(self.prefix)

    def vehicle(self, vehicle_id="V-1"):
        """The document of a vehicle, None where there is none."""
        try:
            return self.ask("GET", f"vehicles/_doc/{vehicle_id}")["_source"]
        except urllib.error.HTTPError:
            return None


def _day_and_key(part, key):
    """Of a document, by the end of its index's name and its _id."""
    return (key[-10:], key[:-11]) if part.isdecimal() else (part, key)


@pytest.fixture
def proxy(elasticsearch):
    """A way to the node on which anything can go wrong."""
    with FaultProxy(elasticsearch.address) as one:
        yield one


@pytest.fixture
def store(elasticsearch, proxy):
    """A prefix of one's own on the node, reached through `proxy`."""
    one = Store(elasticsearch, f"t{next(_NUMBERS)}-", proxy.url, [])
    yield one
    proxy.clear()
    for sink in one.sinks:
        sink.close()
    names = one.ask("GET", "*?filter_path=*.settings.index.uuid")
    for name in names:
        elasticsearch.ask("DELETE", f"/{name}")
