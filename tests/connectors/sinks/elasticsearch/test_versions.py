"""Which versions of Elasticsearch are spoken to."""

import http.client
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from connectors.errors import DependencyFailed
from tests.connectors.sinks.elasticsearch.rows import GPS, oracle, some

pytestmark = pytest.mark.servers

REFUSAL = (
    b'{"error":{"type":"media_type_header_exception","reason":"Invalid media-type value on headers '
    b'[Accept, Content-Type]"},"status":400}'
)


class OfVersion(ThreadingHTTPServer):
    """Stands before the node at `upstream` (host, port) and refuses, as a node of `version` does,
    what asks for a later one's answers."""

    daemon_threads = True

    def __init__(self, version, upstream):
        super().__init__(("127.0.0.1", 0), Way)
        self.version, self.upstream = version, upstream

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Way(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def carry(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        asked = f"{self.headers.get('accept')} {self.headers.get('content-type')}"
        spoken = map(int, re.findall(r"compatible-with=(\d+)", asked))
        if max(spoken, default=0) > self.server.version:
            return self.answer(400, {"content-type": "application/json"}, REFUSAL)
        node = http.client.HTTPConnection(*self.server.upstream)
        node.request(self.command, self.path, body, dict(self.headers))
        told = node.getresponse()
        return self.answer(told.status, dict(told.headers), told.read())

    def answer(self, status, headers, body):
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = carry

    def log_message(self, *_):
        pass


@pytest.fixture
def of_version(elasticsearch):
    made = []

    def make(version):
        server = OfVersion(version, ("127.0.0.1", elasticsearch.port))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.append(server)
        return server.url

    yield make
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("version", [8, 9])
def test_a_node_of_either_version_is_written_to(store, of_version, version):
    rows = some(GPS, 3)
    assert store.sink(hosts=(of_version(version),)).write(GPS, rows).rows == 3
    assert store.held(GPS) == oracle(rows)
    assert store.vehicle()["seen_row"] == "m2-0"


def test_an_older_node_is_refused_for_its_version(store, of_version):
    with pytest.raises(DependencyFailed, match=r"media_type_header_exception.*version 8 or 9"):
        store.sink(hosts=(of_version(7),))
