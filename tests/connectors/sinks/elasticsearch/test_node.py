"""A node of our own: with TLS and API keys, little room for requests, killed and started again."""

import json
import threading

import pytest

from connectors.errors import DependencyFailed
from connectors.sinks.elasticsearch.settings import ElasticsearchSettings
from connectors.sinks.elasticsearch.sink import ElasticsearchSink
from runners.artefacts import java_runtime
from runners.stack.processes import free_port
from runners.stack.servers.elasticsearch import USER, Elasticsearch, Tls
from tests.connectors.sinks.elasticsearch.rows import GPS, NOON, oracle, some
from tests.support.certificates import Authority
from tests.support.servers import CACHE, running
from tests.support.tcp_relay import Relay

pytestmark = pytest.mark.servers

NARROW = {"thread_pool.write.queue_size": "1", "indexing_pressure.memory.limit": "300kb"}


@pytest.fixture(scope="module")
def node(servers, tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("authority"))
    tls = Tls(*authority.issue("node"), authority.ca)
    server = Elasticsearch(
        servers / "elasticsearch-own",
        CACHE,
        free_port(Elasticsearch.span),
        tls=tls,
        settings=NARROW,
        java_options=java_runtime.LIGHT,
    )
    with running(server) as one:
        yield one


@pytest.fixture
def sink_of(node):
    made = []

    def make(prefix, **settings):
        way = {"user": USER, "password": f"file:{node.password_file}"}
        quick = {"retry_backoff_ms": 20, "retry_backoff_max_ms": 1000, "max_retries": 200}
        fixed = {"hosts": (node.address,), "ca_file": str(node.tls.authority), "replicas": 0}
        given = {**quick, **fixed, **({} if "api_key" in settings else way), **settings}
        settings = ElasticsearchSettings(index_prefix=prefix, **given)
        made.append(ElasticsearchSink(settings, now=lambda: NOON))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def held(node, prefix):
    node.ask("GET", f"/_cluster/health/{prefix}*?wait_for_status=yellow&timeout=20s")
    node.ask("POST", f"/{prefix}*/_refresh")
    path = f"/{prefix}telemetry-gps-*/_search?size=10000&version=true&_source=false"
    hits = json.loads(node.ask("GET", path))["hits"]["hits"]
    return {(hit["_index"][-10:], hit["_id"]): hit["_version"] for hit in hits}


def taken(node, prefix):
    """How many documents were written; asked of shards, it is answered while one still starts."""
    stats = json.loads(node.ask("GET", f"/{prefix}*/_stats/indexing"))
    return stats["_all"]["total"].get("indexing", {}).get("index_total", 0)


def test_a_node_of_an_authority_we_do_not_know_gets_nothing(sink_of, tmp_path):
    sink = sink_of("ca-", ca_file=str(Authority(tmp_path, "other").ca))
    with pytest.raises(DependencyFailed, match=r"no trust could be made.*ca_file"):
        sink.prepare([GPS])
    with pytest.raises(DependencyFailed, match=r"no trust could be made.*ca_file"):
        sink.write(GPS, some(GPS, 3))


class Stumbling(Relay):
    """Breaks off the first handshakes."""

    stumbles = 3

    def _pass(self, client):
        if not self.stumbles:
            return super()._pass(client)
        self.stumbles -= 1
        client.recv(65536)
        client.close()


def test_a_handshake_that_is_broken_off_is_tried_again(node, sink_of):
    way = Stumbling(node.address)
    way.mend()
    try:
        sink = sink_of("stumbling-", hosts=(f"https://127.0.0.1:{way.port}",))
        sink.prepare([GPS])
        assert way.stumbles == 0
        assert sink.write(GPS, some(GPS, 3)).rows == 3
    finally:
        way.cut()


def test_a_key_writes_until_it_is_revoked(node, sink_of, tmp_path):
    privileges = [{"names": ["key-*"], "privileges": ["manage", "read", "write"]}]
    role = {"writer": {"cluster": ["manage_index_templates", "monitor"], "indices": privileges}}
    wanted = {"name": "writer", "role_descriptors": role}
    key = json.loads(node.ask("POST", "/_security/api_key", json.dumps(wanted).encode()))
    place = tmp_path / "key"
    place.write_text(key["encoded"] + "\n")
    sink, rows = sink_of("key-", api_key=f"file:{place}"), some(GPS, 20)
    sink.prepare([GPS])
    assert sink.write(GPS, rows.slice(0, 10)).rows == 10
    other = sink_of("elsewhere-", api_key=f"file:{place}", max_retries=1)
    with pytest.raises(DependencyFailed, match=r"security_exception|unauthorized"):
        other.write(GPS, rows)
    node.ask("DELETE", "/_security/api_key", json.dumps({"ids": [key["id"]]}).encode())
    with pytest.raises(DependencyFailed, match=r"HTTP 401 security_exception.*api_key"):
        sink.write(GPS, rows)
    assert held(node, "key-") == oracle(rows.slice(0, 10))


def test_an_index_that_a_template_of_others_makes_a_data_stream_is_no_fault_of_the_rows(
    node, sink_of
):
    sink = sink_of("streams-", max_retries=1)
    sink.prepare([GPS])
    others = {"index_patterns": ["streams-telemetry-gps-*"], "priority": 900, "data_stream": {}}
    node.ask("PUT", "/_index_template/others", json.dumps(others).encode())
    wanted = r"streams-telemetry-gps-2026\.03\.10: HTTP 400 .*data streams.*templates"
    with pytest.raises(DependencyFailed, match=wanted):
        sink.write(GPS, some(GPS, 20))


def test_a_node_with_too_much_to_do_gets_it_later(node, sink_of):
    sink = sink_of("much-", batch_size=100, max_in_flight_requests=16, compress=False)
    sink.prepare([GPS])
    rows = some(GPS, 3000, firmware_version="x" * 300)
    done = sink.write(GPS, rows)
    assert (done.rows, done.refused.num_rows) == (3000, 0)
    assert done.retries > 0
    assert held(node, "much-") == oracle(rows)


def test_a_node_that_is_killed_while_it_is_written_to_has_all_rows_in_the_end(node, sink_of):
    sink = sink_of("killed-", batch_size=25, max_in_flight_requests=1)
    sink.prepare([GPS])
    rows, done = some(GPS, 5000), []
    writing = threading.Thread(target=lambda: done.append(sink.write(GPS, rows)))
    writing.start()
    while not taken(node, "killed-"):
        assert writing.is_alive()
    node.kill()
    assert writing.is_alive()
    node.start()
    node.ready()
    writing.join(300)
    assert (done[0].rows, done[0].refused.num_rows) == (5000, 0)
    assert done[0].retries > 0
    assert held(node, "killed-") == oracle(rows)
