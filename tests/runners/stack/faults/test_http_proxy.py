"""The fault proxy changes nothing but what its rules say."""

import http.client
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from runners.stack.faults.http_proxy import FaultProxy
from runners.stack.faults.rules import (
    Answer,
    Delay,
    LoseAnswer,
    Reset,
    ResetInAnswer,
    ResetInRequest,
    Rewrite,
    Slow,
)
from tests.support.certificates import Authority

pytestmark = pytest.mark.servers

BROKEN = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
LARGE = bytes(range(256)) * 8192


class Echo(BaseHTTPRequestHandler):
    """Answers with the body it got, chunked where it came chunked; `done` lists what it took."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        self.server.connections.add(self.client_address)
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
        body = self._chunks() if chunked else self._exactly()
        if body is None:
            self.server.broken += 1
            return
        self.server.done.append((self.command, self.path, body, dict(self.headers)))
        self.send_response(200)
        if self.path == "/until-closed":
            self.close_connection = True
        elif chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_HEAD = do_PUT

    def handle_expect_100(self):
        if self.path == "/refused":
            self.send_error(403)
            return False
        return super().handle_expect_100()

    def log_message(self, *words):
        pass

    def _exactly(self):
        size = int(self.headers.get("Content-Length", 0))
        try:
            body = self.rfile.read(size)
        except OSError:
            return None
        return body if len(body) == size else None

    def _chunks(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Connections are broken on purpose here."""


@pytest.fixture
def server():
    one = Server(("127.0.0.1", 0), Echo)
    one.done, one.broken, one.connections = [], 0, set()
    one.url = f"http://127.0.0.1:{one.server_port}"
    threading.Thread(target=one.serve_forever, args=[0.01], daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


@pytest.fixture
def proxy(server):
    with FaultProxy(server.url) as one:
        yield one


def put(proxy, path, data=b"fact", **options):
    return requests.put(proxy.url + path, data=data, timeout=30, **options)


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_request_that_no_rule_meets_passes_unchanged(proxy, server):
    proxy.rule("POST", "/other", Reset())
    done = put(proxy, "/a%20b?x=1&y=", LARGE, headers={"X-Signed": "Yes  twice"})
    assert (done.status_code, done.content) == (200, LARGE)
    [(_, path, body, headers)] = server.done
    assert (path, body) == ("/a%20b?x=1&y=", LARGE)
    assert headers["X-Signed"] == "Yes  twice"
    assert headers["Host"] == f"127.0.0.1:{proxy.port}"


def test_a_chunked_body_passes_chunked_both_ways(proxy, server):
    pieces = [b"one", LARGE, b"two"]
    done = put(proxy, "/", iter(pieces))
    assert done.content == b"".join(pieces) == server.done[0][2]
    assert done.headers["Transfer-Encoding"] == "chunked"


def test_an_answer_that_ends_with_its_connection_passes(proxy):
    assert put(proxy, "/until-closed", LARGE).content == LARGE


def test_a_connection_is_kept_to_client_and_server(proxy, server):
    with requests.Session() as session:
        for number in range(5):
            assert session.put(f"{proxy.url}/{number}", data=b"x", timeout=30).content == b"x"
        assert session.head(f"{proxy.url}/head", timeout=30).content == b""
        assert session.get(f"{proxy.url}/after", timeout=30).status_code == 200
    assert len(server.connections) == 1


def test_a_rule_answers_in_the_servers_place_as_often_as_it_says(proxy, server):
    body = b'{"status":429}'
    rule = proxy.rule("PUT", "^/_bulk", Answer(429, body, {"Retry-After": "1"}), first=2, times=2)
    with requests.Session() as session:
        done = [session.put(f"{proxy.url}/_bulk", data=LARGE, timeout=30) for _ in range(4)]
    assert [one.status_code for one in done] == [200, 429, 429, 200]
    assert (done[1].content, done[1].headers["Retry-After"]) == (body, "1")
    assert (rule.seen, rule.struck, len(server.done)) == (4, 2, 2)


def test_a_rule_meets_only_its_method_and_path(proxy):
    rule = proxy.rule("GET", r"/index-\d+/_doc", Answer(503))
    anything = proxy.rule("", "")
    assert put(proxy, "/index-1/_doc").status_code == 200
    assert requests.get(f"{proxy.url}/index-x/_doc", timeout=30).status_code == 200
    assert requests.get(f"{proxy.url}/index-1/_doc", timeout=30).status_code == 503
    assert (rule.seen, anything.seen) == (1, 3)
    proxy.clear()
    assert requests.get(f"{proxy.url}/index-1/_doc", timeout=30).status_code == 200


def test_a_reset_before_the_server_leaves_it_untouched(proxy, server):
    proxy.rule("PUT", "/", Reset(), times=1)
    with pytest.raises(BROKEN):
        put(proxy, "/")
    assert server.done == []
    assert put(proxy, "/").content == b"fact"


def test_a_lost_answer_was_work_done(proxy, server):
    proxy.rule("PUT", "/", LoseAnswer(), times=1)
    with pytest.raises(BROKEN):
        put(proxy, "/", LARGE)
    assert [body for _, _, body, _ in server.done] == [LARGE]


def test_a_request_is_cut_in_its_body(proxy, server):
    proxy.rule("PUT", "/", ResetInRequest(100_000), times=1)
    with pytest.raises(BROKEN):
        put(proxy, "/", LARGE)
    until(lambda: server.broken == 1)
    assert server.done == []


@pytest.mark.parametrize("after", [0, 1, 100_000])
def test_an_answer_is_cut_in_its_body(proxy, server, after):
    proxy.rule("PUT", "/", ResetInAnswer(after))
    got = b""
    with pytest.raises(BROKEN), put(proxy, "/", LARGE, stream=True) as done:
        for piece in done.iter_content(1000):
            got += piece
    assert len(got) <= after < len(LARGE) == len(server.done[0][2])


def test_a_reset_is_a_reset_and_not_an_end(proxy):
    proxy.rule("GET", "/", Reset())
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_delay_waits_before_the_server_is_asked(proxy, server):
    proxy.rule("PUT", "/", Delay(0.3))
    began = time.monotonic()
    assert put(proxy, "/").content == b"fact"
    assert time.monotonic() - began >= 0.3


def test_a_server_that_never_answers_is_a_long_delay(proxy, server):
    proxy.rule("PUT", "/", Delay(3600))
    with pytest.raises(requests.ReadTimeout):
        requests.put(f"{proxy.url}/", data=b"x", timeout=0.2)
    assert server.done == []


def test_a_slow_link_takes_its_time_both_ways(proxy):
    proxy.rule("PUT", "/", Slow(50_000))
    began = time.monotonic()
    assert len(put(proxy, "/", LARGE[:10_000]).content) == 10_000
    assert time.monotonic() - began >= 0.4


def test_an_answers_body_is_rewritten(proxy, server):
    proxy.rule("PUT", "/", Rewrite(bytes.upper))
    assert put(proxy, "/", b"fact").content == b"FACT"
    assert put(proxy, "/", iter([b"fa", b"ct"])).content == b"FACT"
    assert "Accept-Encoding" not in server.done[0][3]


def test_faults_of_a_request_add_up(proxy, server):
    slow, lost = proxy.rule("PUT", "/", Delay(0.2)), proxy.rule("PUT", "/", LoseAnswer())
    began = time.monotonic()
    with pytest.raises(BROKEN):
        put(proxy, "/")
    assert time.monotonic() - began >= 0.2
    assert (slow.struck, lost.struck, len(server.done)) == (1, 1, 1)


def expecting(proxy, path, body=b"fact"):
    """What a client that waits for 100 Continue is told, first and last."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as client:
        head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        client.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        first = client.recv(1000)
        if b" 100 " not in first:
            return first.split(b"\r\n")[0], b""
        client.sendall(body)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return first.split(b"\r\n")[0], answer.read()


def test_a_client_waits_for_the_servers_leave_to_send(proxy, server):
    assert expecting(proxy, "/") == (b"HTTP/1.1 100 Continue", b"fact")
    refused, _ = expecting(proxy, "/refused")
    assert refused.startswith(b"HTTP/1.1 403")
    assert len(server.done) == 1


def test_a_client_that_waits_is_answered_in_the_servers_place(proxy, server):
    proxy.rule("PUT", "/", Answer(503))
    assert expecting(proxy, "/")[0] == b"HTTP/1.1 503 Service Unavailable"
    assert server.done == []


def test_a_server_that_is_away_breaks_connections(server):
    with FaultProxy("http://127.0.0.1:1") as proxy, pytest.raises(BROKEN):
        put(proxy, "/")


def test_a_closed_proxy_refuses_and_comes_back_to_its_port(proxy):
    port = proxy.port
    rule = proxy.rule("PUT", "/")
    put(proxy, "/")
    proxy.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    proxy.start()
    put(proxy, "/")
    assert (proxy.port, rule.seen) == (port, 2)


def test_what_is_no_http_is_reset(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.sendall(b"nonsense\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_tls_is_spoken_to_both_sides(tmp_path, server):
    authority = Authority(tmp_path)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(*authority.issue("proxy"))
    trusting = ssl.create_default_context(cafile=authority.ca)
    with (
        FaultProxy(server.url, tls=own) as inner,
        FaultProxy(inner.url, tls=own, upstream_tls=trusting) as outer,
    ):
        outer.rule("PUT", "/", LoseAnswer(), first=2, times=1)
        assert put(outer, "/", LARGE, verify=str(authority.ca)).content == LARGE
        with pytest.raises(BROKEN):
            put(outer, "/", verify=str(authority.ca))
        assert put(outer, "/", LARGE, verify=str(authority.ca)).content == LARGE
    assert len(server.done) == 3
