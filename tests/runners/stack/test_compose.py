"""compose.yaml offers the same servers as the stack; here only what can be said without Docker."""

import re

import pytest
import yaml

from runners.stack.catalogue import PORTS
from runners.stack.servers import elasticsearch_parts as elasticsearch
from runners.stack.servers import kafka, registry, s3
from tests.repository.files import ROOT

TEXT = (ROOT / "compose.yaml").read_text()
WITHOUT_IMAGE = {"bigquery", "faults"}
SERVICES = yaml.safe_load(TEXT)["services"]


@pytest.mark.parametrize(
    ("service", "image"),
    [
        ("kafka", f"apache/kafka:{kafka.VERSION}"),
        ("registry", f"apicurio/apicurio-registry:{registry.VERSION}"),
        ("postgres", "postgres:15"),
        ("elasticsearch", f"docker.elastic.co/elasticsearch/elasticsearch:{elasticsearch.VERSION}"),
        ("s3", f"versity/versitygw:v{s3.VERSION}"),
        ("jobmanager", "flink:2.2.1"),
        ("taskmanager", "flink:2.2.1"),
    ],
)
def test_the_versions_are_those_of_the_stack(service, image):
    assert SERVICES[service]["image"] == image


def test_the_ports_are_those_of_the_stack_and_on_loopback():
    published = [place for service in SERVICES.values() for place in service.get("ports", [])]
    assert {place.rpartition(":")[0] for place in published} == {
        f"127.0.0.1:{port}" for name, port in PORTS.items() if name not in WITHOUT_IMAGE
    }


def test_it_says_that_it_was_not_run():
    assert "Not run by the project's checks" in TEXT


def test_kafka_gets_the_settings_of_the_stack():
    given = SERVICES["kafka"]["environment"]
    for line in kafka.PROPERTIES.splitlines():
        key, _, value = line.partition("=")
        name = "KAFKA_" + key.upper().replace(".", "_")
        if "{" not in value and name in given and key != "inter.broker.listener.name":
            assert str(given[name]) == value, key


def test_no_password_stands_in_it():
    values = re.findall(
        r"(?:PASSWORD|SECRET_KEY|ACCESS_KEY\w*): (\S+)", TEXT.split("volumes:\n  ka")[0]
    )
    assert values
    assert all(value.startswith("${") for value in values)
