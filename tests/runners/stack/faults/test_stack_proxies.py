"""The proxies as a server of the stack follow their file of rules."""

import http.server
import threading
import time

import pytest
import requests

from runners.artefacts.fetch import default_cache
from runners.stack.catalogue import Choice, build
from runners.stack.faults.rules import Answer, Delay, LoseAnswer, ResetInAnswer, Slow
from runners.stack.faults.server import BadRules, read_rules
from runners.stack.faults.stack_proxies import BEFORE, FaultProxies
from runners.stack.processes import free_port
from tests.support.servers import running, server_folder

pytestmark = pytest.mark.servers


class Plain(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"fact")

    def log_message(self, *words):
        pass


@pytest.fixture
def upstream():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Plain)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_rules_change_while_the_proxies_run(upstream):
    port = free_port(FaultProxies.span)
    with server_folder() as folder:
        proxies = FaultProxies(folder / "faults", default_cache(), port, {"s3": upstream})
        with running(proxies) as one:
            url = one.addresses["s3"]

            def status():
                return requests.get(url, timeout=30).status_code

            assert (status(), one.address) == (200, f"s3={url}")
            one.rules.write_text("- {to: s3, method: GET, answer: {status: 503}}\n")
            until(lambda: status() == 503)
            one.rules.write_text("- {to: nowhere}\n")
            until(lambda: "rules stay as they are" in one.process.last_words())
            assert status() == 503
            one.rules.unlink()
            until(lambda: status() == 200)


def test_a_rule_says_all_that_a_proxy_can_do(tmp_path):
    place = tmp_path / "rules.yaml"
    place.write_text(
        "- {to: s3, method: PUT, path: ^/lake/, lose_answer: true, first: 2, times: 1}\n"
        "- {to: s3, delay_s: 1.5, bytes_per_s: 10, reset_in_answer: 0}\n"
        "- {to: elasticsearch, answer: {status: 429, body: busy, headers: {Retry-After: '1'}}}\n"
    )
    rules = read_rules(place, {"s3", "elasticsearch"})
    lost, slow = rules["s3"]
    assert (lost.method, lost.path, lost.faults) == ("PUT", "^/lake/", (LoseAnswer(),))
    assert (lost.first, lost.times) == (2, 1)
    assert set(slow.faults) == {Delay(1.5), Slow(10), ResetInAnswer(0)}
    assert rules["elasticsearch"][0].faults == (Answer(429, b"busy", {"Retry-After": "1"}),)


@pytest.mark.parametrize("text", ["- {to: s3, anser: {status: 503}}", "- [", "to: s3", "- 5"])
def test_rules_that_are_not_understood_are_refused_by_name(tmp_path, text):
    place = tmp_path / "rules.yaml"
    place.write_text(text)
    with pytest.raises(BadRules, match=r"rules\.yaml"):
        read_rules(place, {"s3"})


def test_the_stack_puts_them_before_what_it_has(tmp_path):
    choice = Choice({"elasticsearch": 21000, "kafka": 21100, "faults": 21200})
    proxies = build(tmp_path, tmp_path, choice)["faults"]
    assert proxies.upstreams == {"elasticsearch": "http://127.0.0.1:21000"}
    assert proxies.addresses == {"elasticsearch": "http://127.0.0.1:21200"}
    assert proxies.span == len(BEFORE)
