"""`odograph topics` and `odograph schemas register` as people and scripts meet them."""

import json
import secrets
import sys
import threading
from functools import partial

import pytest
import requests
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

import runners.cli.main as command
from connectors.schema_registry import register
from runners.stack.processes import free_port
from tests.support.kafka import ChangedKafka
from tests.support.servers import CACHE, running

pytestmark = pytest.mark.servers


@pytest.fixture
def odograph(monkeypatch, capsys):
    """Runs a command in this process: exit code, stdout, stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["odograph", *map(str, words)])
        code = 0
        try:
            command.main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="module")
def empty(servers):
    with running(ChangedKafka(servers / "empty", CACHE, port=free_port(2))) as server:
        yield server


@pytest.fixture
def config(tmp_path):
    def write(**sections):
        path = tmp_path / f"{secrets.token_hex(4)}.yaml"
        path.write_text(yaml.safe_dump(sections))
        return path

    return write


def test_plan_apply_plan_and_apply_again(odograph, empty, config):
    topics = {"single_node": True, "partitions": 2}
    path = config(kafka={"bootstrap": empty.address}, topics=topics)
    code, out, err = odograph("topics", "plan", "--config", path)
    assert (code, err) == (4, "") and "message-kinematic" in out and "retention.ms=172800000" in out
    code, out, err = odograph("topics", "apply", "--config", path)
    assert (code, err) == (0, "") and "14 topics created" in out
    assert odograph("topics", "plan", "--config", path)[:2] == (
        0, "14 topics are as declared; nothing to do\n",
    )  # fmt: skip
    assert odograph("topics", "apply", "--config", path)[:2] == (
        0, "14 topics are as declared; nothing was done\n",
    )  # fmt: skip

    wider = config(kafka={"bootstrap": empty.address}, topics=topics | {"partitions": 3})
    code, out, _ = odograph("topics", "plan", "--config", wider)
    assert code == 4 and "moves keys" in out
    code, _, err = odograph("topics", "apply", "--config", wider)
    assert code == 2 and "--allow-repartition" in err and "nothing was changed" in err
    assert odograph("topics", "apply", "--config", wider, "--allow-repartition")[0] == 0
    assert odograph("topics", "plan", "--config", wider)[0] == 0
    code, _, err = odograph("topics", "apply", "--config", path, "--allow-repartition")
    assert code == 2 and "cannot take partitions away" in err


@pytest.mark.parametrize("name", ["plan", "apply"])
def test_unreachable_brokers_are_code_3_with_their_address(odograph, config, name, monkeypatch):
    monkeypatch.setattr("connectors.kafka.topic_changes.REQUEST_S", 2.0)
    path = config(kafka={"bootstrap": "127.0.0.1:1"}, topics={"single_node": True})
    code, out, err = odograph("topics", name, "--config", path)
    assert (code, out) == (3, "") and len(err.splitlines()) == 1 and "127.0.0.1:1" in err


def test_no_bootstrap_and_a_replication_of_one_are_code_2(odograph, config):
    assert odograph("topics", "plan")[0] == 2
    path = config(kafka={"bootstrap": "127.0.0.1:1"}, topics={"replication": 1, "min_insync": 1})
    code, _, err = odograph("topics", "plan", "--config", path)
    assert code == 2 and "replication 1" in err


def test_schemas_are_registered_and_listed_and_again_the_same(odograph, registry, config):
    code, out, err = odograph("schemas", "register", "--registry", registry.address)
    assert (code, err) == (0, "")
    for name in ("message-log-value", "vehicle-adas-value", "vehicle-minutes-value"):
        assert name in out
    assert "unbound" not in out and "late-value" not in out
    path = config(registry={"url": registry.address})
    assert odograph("schemas", "register", "--config", path) == (0, out, "")


def test_schemas_that_must_not_be_replaced_are_code_2_with_the_problems(
    odograph, registry, monkeypatch
):
    topic = f"test-{secrets.token_hex(4)}"
    old = (
        '{"type":"record","name":"MessageLog","namespace":"fleet.telemetry.v1","fields":'
        '[{"name":"odometer_m","type":["null","long"],"default":null,"doc":"km"}]}'
    )
    url = f"{registry.address}/subjects/{topic}-value/versions"
    assert requests.post(url, json={"schema": old}, timeout=30).status_code == 200
    only = partial(register.register_all, topics={topic: "message_log"})
    monkeypatch.setattr(register, "register_all", only)
    code, out, _ = odograph("schemas", "register", "--registry", registry.address)
    assert code == 2 and f"{topic}-value version 1: odometer_m: unit-changed" in out
    assert "not registered" in out


def test_no_registry_and_an_unreachable_one_are_told_apart(odograph, monkeypatch):
    assert odograph("schemas", "register")[0] == 2
    monkeypatch.setattr("connectors.schema_registry.register.FIRST_ANSWER_S", 0.5)
    code, _, err = odograph("schemas", "register", "--registry", "http://127.0.0.1:1")
    assert code == 3 and "127.0.0.1:1" in err and len(err.splitlines()) == 1


def test_tail_waits_for_a_first_message_and_no_longer(odograph, empty, config):
    topic = f"tailed-{secrets.token_hex(4)}"
    admin = AdminClient({"bootstrap.servers": empty.address})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    path = config(kafka={"bootstrap": empty.address})
    words = ("topics", "tail", topic, "-n", 1, "--config", path, "--wait-s")
    assert odograph(*words, 0) == (0, "", "")
    producer = Producer({"bootstrap.servers": empty.address})
    later = threading.Timer(2, lambda: (producer.produce(topic, "one", "key"), producer.flush()))
    later.start()
    code, out, err = odograph(*words, 300)
    later.join()
    assert (code, err) == (0, "") and json.loads(out)["value"] == "one"
