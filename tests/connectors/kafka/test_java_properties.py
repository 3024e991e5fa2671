"""The same settings work in librdkafka and in Java, on a broker that wants TLS and passwords."""

import os
import subprocess

import pytest

from connectors.errors import BadSettings, DependencyFailed
from connectors.kafka.client import partitions
from connectors.kafka.java_properties import java_properties
from connectors.kafka.settings import KafkaSettings
from runners.artefacts import java_runtime
from runners.stack.processes import free_port
from tests.support.certificates import Authority
from tests.support.kafka import ChangedKafka, new_topic
from tests.support.servers import CACHE, running

DOORS = "PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:%d,SSL://127.0.0.1:%d"
MODULES = "org.apache.kafka.common.security"
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")

PASSWORD = 'with "quotes" and \\ back'
"""What a jaas line must not be broken by."""


def in_a_file(properties):
    """A Java properties file."""
    escapes = {"\\": "\\\\", "\n": "\\n", " ": "\\ ", "=": "\\=", ":": "\\:", "#": "\\#"}
    lines = []
    for name, value in properties.items():
        lines.append(f"{name}={''.join(escapes.get(letter, letter) for letter in value)}")
    return "\n".join(lines) + "\n"


class Secured:
    """A broker with a plain door, one for passwords and one for certificates."""

    def __init__(self, folder):
        self.authority = Authority(folder)
        chain, key = self.authority.issue("broker")
        keystore = folder / "broker.pem"
        keystore.write_bytes(key.read_bytes() + chain.read_bytes())
        ports = free_port(4)
        self.sasl, self.mutual = ports + 2, ports + 3
        quoted = PASSWORD.replace("\\", "\\\\").replace('"', '\\"').replace("\\", "\\\\")
        doors = DOORS % (self.sasl, self.mutual)
        login = "listener.name.sasl_ssl.{}.sasl.jaas.config"
        settings = {
            "listeners": doors + ",CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": doors,
            "listener.security.protocol.map": ",".join(
                f"{name}:{name}" for name in ("PLAINTEXT", "SASL_SSL", "SSL")
            )
            + ",CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": ",".join(["PLAIN", *SCRAM]),
            login.format("plain"): f"{MODULES}.plain.PlainLoginModule required"
            f' user_odograph="{quoted}";',
            "listener.name.ssl.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(keystore),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.ca),
        }
        for name in SCRAM:
            settings[login.format(name.lower())] = f"{MODULES}.scram.ScramLoginModule required;"
        more = "\n".join(f"{name}={value}" for name, value in settings.items())
        self.server = ChangedKafka(folder / "kafka", CACHE, port=ports, more=more)

    def command(self, tool, *words, heap="128m"):
        """A tool of Kafka, which is a real Java client."""
        runtime = java_runtime.fetch(CACHE) / "bin" / "java"
        line = [runtime, *java_runtime.LIGHT, f"-Xmx{heap}", "-cp", f"{self.server.fetch()}/*"]
        line += [tool, *words]
        return subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False)

    def add_scram_users(self):
        for mechanism in SCRAM:
            words = ["--bootstrap-server", self.server.address, "--alter"]
            words += ["--entity-type", "users", "--entity-name", "odograph"]
            words += ["--add-config", f"{mechanism}=[password=plainword]"]
            ended = self.command("kafka.admin.ConfigCommand", *words)
            assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    one = Secured(tmp_path_factory.mktemp("secured"))
    with running(one.server):
        one.add_scram_users()
        one.topic = new_topic(one.server, partitions=3)
        yield one


def both_see_the_topic(secured, settings, tmp_path):
    assert len(partitions(settings, [secured.topic])) == 3
    (tmp_path / "client.properties").write_text(in_a_file(java_properties(settings)))
    words = ["--bootstrap-server", settings.bootstrap, "--list"]
    words += ["--command-config", tmp_path / "client.properties"]
    ended = secured.command("org.apache.kafka.tools.TopicCommand", *words)
    assert secured.topic in ended.stdout, ended.stderr


def by_password(secured, mechanism):
    properties = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": mechanism,
        "sasl.username": "odograph",
        "ssl.ca.location": str(secured.authority.ca),
    }
    secrets = {"sasl.password": "env:BROKER_PASSWORD"}
    return KafkaSettings(
        bootstrap=f"127.0.0.1:{secured.sasl}", properties=properties, secrets=secrets
    )


@pytest.mark.parametrize("mechanism", ["PLAIN", *SCRAM])
def test_passwords_over_tls(secured, tmp_path, monkeypatch, mechanism):
    monkeypatch.setenv("BROKER_PASSWORD", PASSWORD if mechanism == "PLAIN" else "plainword")
    both_see_the_topic(secured, by_password(secured, mechanism), tmp_path)


def test_a_wrong_password_is_said(secured, monkeypatch):
    monkeypatch.setenv("BROKER_PASSWORD", "wrong")
    monkeypatch.setattr("connectors.kafka.client.REQUEST_S", 5.0)
    with pytest.raises(DependencyFailed, match=r"[Aa]uthentication fail"):
        partitions(by_password(secured, "PLAIN"), [secured.topic])


@pytest.mark.parametrize("password", [None, b"opens"])
def test_certificates_of_clients(secured, tmp_path, monkeypatch, password):
    monkeypatch.setenv("KEY_PASSWORD", "opens")
    chain, key = secured.authority.issue(f"client-{password}", password)
    settings = KafkaSettings(
        bootstrap=f"127.0.0.1:{secured.mutual}",
        properties={
            "security.protocol": "SSL",
            "ssl.ca.location": str(secured.authority.ca),
            "ssl.certificate.location": str(chain),
            "ssl.key.location": str(key),
        },
        secrets={"ssl.key.password": "env:KEY_PASSWORD"} if password else {},
    )
    both_see_the_topic(secured, settings, tmp_path)


def told(**properties):
    names = {name.replace("_", "."): value for name, value in properties.items()}
    return java_properties(KafkaSettings(bootstrap="a:1", properties=names))


def test_names_that_are_the_same_stay_and_others_are_translated():
    assert told(
        client_id="odo", queue_buffering_max_ms="5", message_max_bytes="9", debug="all"
    ) == {
        "bootstrap.servers": "a:1",
        "client.id": "odo",
        "linger.ms": "5",
        "max.request.size": "9",
    }
    assert told(enable_ssl_certificate_verification="true") == {"bootstrap.servers": "a:1"}
    none = told(ssl_endpoint_identification_algorithm="none")
    assert none["ssl.endpoint.identification.algorithm"] == ""


def test_user_and_password_are_quoted_for_the_login_module(monkeypatch):
    monkeypatch.setenv("P", 'a"b\\c')
    properties = {"security.protocol": "sasl_plaintext", "sasl.mechanisms": "PLAIN"}
    settings = KafkaSettings(
        bootstrap="a:1",
        properties={**properties, "sasl.username": "u"},
        secrets={"sasl.password": "env:P"},
    )
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
    config = java_properties(settings)["sasl.jaas.config"]
    assert config == plain + ' required username="u" password="a\\"b\\\\c";'


@pytest.mark.parametrize(
    ("properties", "named"),
    [
        ({"ssl.cipher.suites": "A"}, r"ssl\.cipher\.suites"),
        ({"enable.ssl.certificate.verification": "false"}, r"enable\.ssl\.certificate"),
        ({"ssl.ca.location": "probe"}, r"ssl\.ca\.location"),
        ({"ssl.ca.location": os.curdir}, r"ssl\.ca\.location"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}, r"sasl\.mechanism"),
        ({"security.protocol": "SASL_SSL"}, r"sasl\.mechanism"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}, r"sasl\.username"),
        ({"ssl.certificate.location": "nowhere.pem"}, r"ssl\.certificate\.location.*nowhere"),
    ],
)
def test_what_java_cannot_be_told_is_named(properties, named):
    with pytest.raises(BadSettings, match=named):
        java_properties(KafkaSettings(bootstrap="a:1", properties=properties))


def test_a_key_java_cannot_read_and_a_certificate_without_key_are_named(tmp_path):
    chain, _ = Authority(tmp_path).issue("client")
    old = tmp_path / "old.pem"
    old.write_text("-----BEGIN RSA PRIVATE KEY-----\n")
    both = {"ssl.certificate.location": str(chain), "ssl.key.location": str(old)}
    with pytest.raises(BadSettings, match=r"ssl\.key\.location.*PKCS#8"):
        java_properties(KafkaSettings(bootstrap="a:1", properties=both))
    with pytest.raises(BadSettings, match=r"ssl\.key\.location is not set"):
        java_properties(
            KafkaSettings(bootstrap="a:1", properties={"ssl.certificate.location": str(chain)})
        )
