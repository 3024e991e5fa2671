"""Writer schemas by id: from memory, disk and the registry, and what an outage must not do."""

import contextlib
import copy
import http.server
import json
import pickle
import secrets
import ssl
import threading
import time

import pytest
import requests

from connectors.errors import BadSettings, DependencyFailed
from connectors.kafka.topics import SCHEMA_OF
from connectors.schema_registry import lookup as looking
from connectors.schema_registry.client import MAX_RESPONSE, RegistryClient
from connectors.schema_registry.lookup import Lookup, RegistrySchemas, ids, latest_id
from connectors.schema_registry.register import register
from connectors.schema_registry.settings import RegistrySettings
from schemas import load
from tests.support.certificates import Authority
from tests.support.kafka import until
from tests.support.tcp_relay import relay

pytestmark = pytest.mark.servers

GPS = load("message_gps").avro


def unique(schema=GPS):
    """The same schema under a doc nobody used, so that it gets an id of its own."""
    return {**schema, "doc": f"{schema['doc']} {secrets.token_hex(4)}"}


def registered(registry, schema=None):
    schema = unique() if schema is None else schema
    settings = RegistrySettings(url=registry.address)
    subject = f"test-{secrets.token_hex(4)}-value"
    return register(RegistryClient(settings), subject, schema).id, schema


def lookup(url, **more):
    return Lookup(RegistrySettings(url=url, give_up_s=more.pop("give_up_s", 30), **more))


def test_a_schema_is_found_by_id_with_our_own_attributes(registry):
    number, schema = registered(registry)
    found = lookup(registry.address).lookup(number)
    assert found == schema
    speed = next(f for f in found["fields"][-1]["type"]["items"]["fields"] if f.get("valid"))
    assert {"sts", "valid", "doc"} <= speed.keys()


def test_what_was_found_is_not_asked_again_and_outlives_the_registry(registry):
    number, schema = registered(registry)
    with relay(registry.address) as way:
        one = lookup(way.url)
        assert one.lookup(number) == schema
        way.cut()
        assert one.lookup(number) == schema
        assert one.stalls.count == 0


def test_the_disk_keeps_schemas_over_a_restart(registry, tmp_path):
    number, schema = registered(registry)
    with relay(registry.address) as way:
        assert lookup(way.url, cache=str(tmp_path)).lookup(number) == schema
        (file,) = tmp_path.rglob("*.avsc")
        assert file.name == f"{number}.avsc" and json.loads(file.read_text()) == schema
        way.cut()
        assert lookup(way.url, cache=str(tmp_path)).lookup(number) == schema


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"type":"record"}', b"\xff\xfe"])
def test_a_damaged_file_of_the_cache_is_fetched_again(registry, tmp_path, damage):
    number, schema = registered(registry)
    lookup(registry.address, cache=str(tmp_path)).lookup(number)
    (file,) = tmp_path.rglob("*.avsc")
    file.write_bytes(damage)
    assert lookup(registry.address, cache=str(tmp_path)).lookup(number) == schema
    assert json.loads(file.read_text()) == schema


def test_a_cache_that_cannot_be_written_stops_nothing(registry, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    number, schema = registered(registry)
    assert lookup(registry.address, cache=str(tmp_path / "cache")).lookup(number) == schema


def test_ids_of_two_registries_are_not_mixed_in_one_cache(registry, tmp_path):
    number, _ = registered(registry)
    lookup(registry.address, cache=str(tmp_path)).lookup(number)
    with relay(registry.address) as other:
        one = lookup(other.url, cache=str(tmp_path))
        other.cut()
        one.settings = one.settings.model_copy(update={"give_up_s": 0.5})
        with pytest.raises(DependencyFailed):
            one.lookup(number)


@pytest.mark.parametrize("number", [0, -1, 2**31, 2**32 - 1])
def test_numbers_that_are_no_ids_are_unknown_without_asking(number):
    assert lookup("http://127.0.0.1:1").lookup(number) is None


def test_an_unknown_id_is_asked_several_times_then_believed_for_a_while(registry, monkeypatch):
    one = lookup(registry.address)
    with counting(one) as asked:
        assert one.lookup(999_999) is None
        assert len(asked) > 2
        before = len(asked)
        assert one.lookup(999_999) is None and len(asked) == before
        monkeypatch.setattr(looking, "UNKNOWN_FOR_S", 0.0)
        one.unknown[999_999] = 0.0
        assert one.lookup(999_999) is None and len(asked) > before
    assert "999999" in one.reasons[999_999]


def test_an_id_registered_while_it_is_asked_for_is_found(registry):
    newest, _ = registered(registry)
    answer = []
    one = lookup(registry.address)
    thread = threading.Thread(target=lambda: answer.append(one.lookup(newest + 1)))
    with counting(one) as asked:
        thread.start()
        until(lambda: asked)
        number, schema = registered(registry)
        thread.join()
    assert number == newest + 1
    assert answer == [schema]


def test_a_flood_of_invented_ids_costs_bounded_patience(registry):
    one = lookup(registry.address)
    slept = []
    one.lookup(900_000)
    spent = looking.PATIENCE_S - one.patience
    assert 0.9 < spent <= looking.BELIEVE_AFTER_S * 1.01
    one.patience = 0.0
    with counting(one) as asked:
        for number in range(900_001, 900_021):
            slept.append(one.lookup(number))
    assert slept == [None] * 20 and len(asked) < 40


def test_unknown_ids_do_not_fill_the_memory(registry, monkeypatch):
    monkeypatch.setattr(looking, "UNKNOWN_KEPT", 5)
    one = lookup(registry.address)
    one.patience = 0.0
    for number in range(900_100, 900_120):
        one.lookup(number)
    assert len(one.unknown) == 5 and len(one.reasons) == 5


@contextlib.contextmanager
def counting(one):
    """The paths a look-up asks the real registry for."""
    asked, ask = [], one.client.session.request

    def count(verb, url, **words):
        asked.append(url)
        return ask(verb, url, **words)

    one.client.session.request = count
    yield asked
    one.client.session.request = ask


@pytest.mark.parametrize("how", ["cut", "silence"])
def test_a_cold_id_waits_visibly_until_the_registry_is_back(registry, how, monkeypatch):
    monkeypatch.setattr("connectors.schema_registry.client.READ_S", 0.5)
    number, schema = registered(registry)
    with relay(registry.address) as way:
        one = lookup(way.url, give_up_s=120)
        getattr(way, how)()
        answer = []
        thread = threading.Thread(target=lambda: answer.append(one.lookup(number)))
        thread.start()
        until(lambda: one.stalls.waiting)
        assert one.stalls.seconds >= 0 and str(way.port) in one.stalls.reason
        assert answer == []
        way.mend()
        thread.join(60)
    assert answer == [schema]
    assert (one.stalls.waiting, one.stalls.count) == (0, 1)
    assert one.stalls.seconds > 0


def test_an_outage_beyond_give_up_raises_and_never_says_unknown(registry):
    with relay(registry.address) as way:
        way.cut()
        one = lookup(way.url, give_up_s=1)
        began = time.monotonic()
        with pytest.raises(DependencyFailed, match=r"/schemas/ids/77 for 1 s.*refused"):
            one.lookup(77)
        assert time.monotonic() - began > 0.9
        assert one.known == {} and one.unknown == {}
        assert one.stalls.waiting == 0


def test_a_wrong_path_is_no_unknown_id(registry):
    url = registry.address.replace("/apis/", "/wrong/")
    with pytest.raises(DependencyFailed, match=r"HTTP 404.*registry\.url"):
        lookup(url, give_up_s=0.5).lookup(1)


@contextlib.contextmanager
def answering(status, body, length=None):
    """A server that gives one answer to everything, for answers no registry can be made to give."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.seen.append(self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.seen
    finally:
        server.shutdown()
        server.server_close()


UNKNOWN = json.dumps({"error_code": 40403, "message": "Schema 1 not found"}).encode()
FINE = json.dumps({"schema": json.dumps(GPS)}).encode()


@pytest.mark.parametrize(
    ("status", "body", "length"),
    [
        (404, b"<html>no such page</html>", None),
        (404, b'{"error_code": 404, "message": "HTTP 404 Not Found"}', None),
        (500, UNKNOWN, None),
        (503, b"", None),
        (401, b'{"error_code": 40101, "message": "who?"}', None),
        (403, b"no", None),
        (429, b"slowly", None),
        (200, b"<html>log in</html>", None),
        (200, b"[" * 100_000, None),
        (200, FINE[:100], len(FINE)),
        (200, b" " * (MAX_RESPONSE + 1), None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_only_a_registrys_own_word_makes_an_id_unknown(status, body, length):
    with (
        answering(status, body, length) as (url, _),
        pytest.raises(DependencyFailed, match="/schemas/ids/1 for"),
    ):
        lookup(url, give_up_s=0.3).lookup(1)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"schema": '{"type": "object"}', "schemaType": "JSON"}, "JSON"),
        ({"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"}, "PROTOBUF"),
        ({"schema": json.dumps(GPS), "references": [{"name": "a", "subject": "a"}]}, "refers"),
        ({"schema": '"string"'}, "no Avro record"),
        ({"schema": '{"type":"enum","name":"E","symbols":["A"]}'}, "no Avro record"),
        ({"schema": '{"type":"record"}'}, "no Avro schema"),
        ({"schema": "{"}, "no Avro schema"),
        ({"schema": "[" * 100_000}, "no Avro schema"),
        ({}, "no Avro schema"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_decoded_with_is_unknown_with_its_reason(answer, reason):
    with answering(200, json.dumps(answer).encode()) as (url, seen):
        one = lookup(url)
        assert one.lookup(1) is None and one.lookup(1) is None
        assert len(seen) == 1
        assert reason in one.reasons[1]


def test_a_json_schema_in_a_real_registry_is_unknown(registry):
    body = {"schema": '{"type":"object","properties":{}}', "schemaType": "JSON"}
    url = f"{registry.address}/subjects/json-{secrets.token_hex(4)}/versions"
    number = requests.post(url, json=body, timeout=30).json()["id"]
    one = lookup(registry.address)
    assert one.lookup(number) is None and "JSON" in one.reasons[number]


def test_user_and_password_are_sent_and_the_password_read_anew(tmp_path):
    (tmp_path / "password").write_text("first\n")
    settings = RegistrySettings(user="odo", password=f"file:{tmp_path}/password", give_up_s=0.2)
    with answering(404, UNKNOWN) as (url, seen):
        one = Lookup(settings.model_copy(update={"url": url}))
        one.patience = 0.0
        one.lookup(1)
        (tmp_path / "password").write_text("second\n")
        one.lookup(2)
    assert seen == ["Basic b2RvOmZpcnN0", "Basic b2RvOnNlY29uZA=="]


def test_a_registry_behind_tls_is_trusted_only_through_its_authority(registry, tmp_path):
    ours, strangers = Authority(tmp_path), Authority(tmp_path, "stranger")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*ours.issue("registry"))
    number, schema = registered(registry)
    with relay(registry.address, tls) as way:
        assert lookup(way.url, ca_file=str(ours.ca)).lookup(number) == schema
        for ca in (None, str(strangers.ca)):
            with pytest.raises(DependencyFailed, match="certificate"):
                lookup(way.url, ca_file=ca, give_up_s=0.3).lookup(number)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({}, r"registry\.url is not set"),
        ({"url": "registry:8081"}, r"registry\.url"),
        ({"url": "http://me:open@registry"}, r"registry\.user"),
        ({"url": "https://registry", "ca_file": "nowhere.pem"}, r"nowhere\.pem"),
    ],
)
def test_settings_that_lead_nowhere_are_named_at_once(words, named):
    with pytest.raises(BadSettings, match=named):
        Lookup(RegistrySettings(**words)).lookup(1)


def test_a_source_of_schemas_travels_and_shares_what_a_process_knows(registry):
    number, schema = registered(registry)
    source = RegistrySchemas(RegistrySettings(url=registry.address))
    copied = pickle.loads(pickle.dumps(source))
    assert copied.lookup(number) == schema
    assert copied == source and copied.stalls is source.stalls
    assert source.why(number) is None


def test_many_threads_ask_for_a_cold_id_once(registry):
    number, schema = registered(registry)
    one = lookup(registry.address)
    with counting(one) as asked:
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(one.lookup(number))) for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [schema] * 16 and len(asked) == 1


def test_the_id_to_write_with_is_that_of_exactly_our_schema(registry, monkeypatch):
    settings = RegistrySettings(url=registry.address, give_up_s=30)
    topic = f"test-{secrets.token_hex(4)}"
    monkeypatch.setitem(SCHEMA_OF, topic, "vehicle_gps")
    ours = load("vehicle_gps").avro
    client = RegistryClient(settings)
    number = register(client, f"{topic}-value", ours).id
    newer = copy.deepcopy(ours)
    newer["fields"].append({"name": "more", "type": ["null", "string"], "default": None})
    assert register(client, f"{topic}-value", newer).id != number
    assert ids(settings, [topic]) == {topic: number}


def test_a_schema_that_is_not_registered_is_named_with_what_to_do(registry, monkeypatch):
    settings = RegistrySettings(url=registry.address, give_up_s=5)
    topic = f"test-{secrets.token_hex(4)}"
    monkeypatch.setitem(SCHEMA_OF, topic, "vehicle_boot")
    with pytest.raises(DependencyFailed, match=rf"{topic}-value.*schemas register"):
        latest_id(settings, topic)
