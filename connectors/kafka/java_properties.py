"""Kafka settings, written in librdkafka's names, as properties of Java clients (Flink)."""

from __future__ import annotations

from pathlib import Path

from connectors.errors import BadSettings
from connectors.kafka.client import client_properties
from connectors.kafka.settings import KafkaSettings

SAME = frozenset(
    {
        "acks", "allow.auto.create.topics", "auto.offset.reset", "batch.size", "bootstrap.servers",
        "check.crcs", "client.dns.lookup", "client.id", "client.rack", "compression.type",
        "connections.max.idle.ms", "delivery.timeout.ms", "enable.idempotence",
        "fetch.max.bytes", "fetch.min.bytes", "group.id", "group.instance.id",
        "heartbeat.interval.ms", "isolation.level", "linger.ms",
        "max.in.flight.requests.per.connection", "max.partition.fetch.bytes",
        "max.poll.interval.ms", "metadata.max.age.ms", "reconnect.backoff.max.ms",
        "reconnect.backoff.ms", "request.timeout.ms", "retries", "retry.backoff.max.ms",
        "retry.backoff.ms", "security.protocol", "session.timeout.ms",
        "socket.connection.setup.timeout.ms", "ssl.key.password", "transaction.timeout.ms",
        "transactional.id",
    }
)  # fmt: skip
RENAMED = {
    "compression.codec": "compression.type",
    "fetch.message.max.bytes": "max.partition.fetch.bytes",
    "fetch.wait.max.ms": "fetch.max.wait.ms",
    "max.in.flight": "max.in.flight.requests.per.connection",
    "message.max.bytes": "max.request.size",
    "message.send.max.retries": "retries",
    "message.timeout.ms": "delivery.timeout.ms",
    "metadata.broker.list": "bootstrap.servers",
    "queue.buffering.max.ms": "linger.ms",
    "request.required.acks": "acks",
    "socket.receive.buffer.bytes": "receive.buffer.bytes",
    "socket.send.buffer.bytes": "send.buffer.bytes",
    "topic.metadata.refresh.interval.ms": "metadata.max.age.ms",
}
SILENT = frozenset({"debug", "log_level", "log.connection.close", "statistics.interval.ms"})
"""Logs and statistics of librdkafka; Java clients need none of them."""

MODULES = {
    "PLAIN": "plain.PlainLoginModule",
    "SCRAM-SHA-256": "scram.ScramLoginModule",
    "SCRAM-SHA-512": "scram.ScramLoginModule",
}
_SASL = ("sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password")
_PKCS1 = "-----BEGIN RSA PRIVATE KEY-----"


def java_properties(settings: KafkaSettings) -> dict[str, str]:
    """`client_properties` by the names of Java clients. Private keys and passwords are in it, so
    treat it as a secret. Raises BadSettings for a property that Java clients do not have.
    """
    left = client_properties(settings)
    properties = _sasl(left) | _trust(left) | _keys(left) | _verification(left)
    for name, value in left.items():
        if name in SAME:
            properties[name] = value
        elif name in RENAMED:
            properties[RENAMED[name]] = value
        elif name not in SILENT:
            raise BadSettings(f"{_at(name)} = {value!r}: Java clients have no such thing; drop it")
    return properties


def _at(name: str) -> str:
    return f"kafka.properties.{name}"


def _sasl(left: dict[str, str]) -> dict[str, str]:
    singular, plural, user, password = (left.pop(name, None) for name in _SASL)
    mechanism = singular or plural
    if not left.get("security.protocol", "").lower().startswith("sasl"):
        return {}
    if mechanism not in MODULES:
        wanted = ", ".join(MODULES)
        raise BadSettings(f"{_at('sasl.mechanism')} = {mechanism!r}: for Java give one of {wanted}")
    for name, value in (("sasl.username", user), ("sasl.password", password)):
        if value is None:
            raise BadSettings(f"{_at(name)} is not set, and {mechanism} needs it")
    module = f"org.apache.kafka.common.security.{MODULES[mechanism]}"
    config = f"{module} required username={_quoted(user)} password={_quoted(password)};"
    return {"sasl.mechanism": mechanism, "sasl.jaas.config": config}


def _quoted(text: str | None) -> str:
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _trust(left: dict[str, str]) -> dict[str, str]:
    path, text = left.pop("ssl.ca.location", None), left.pop("ssl.ca.pem", None)
    if text:
        return {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": text}
    if not path:
        return {}
    if not Path(path).is_file():
        raise BadSettings(f"{_at('ssl.ca.location')} = {path!r}: for Java give one PEM file")
    return {"ssl.truststore.type": "PEM", "ssl.truststore.location": path}


def _keys(left: dict[str, str]) -> dict[str, str]:
    store, password = left.pop("ssl.keystore.location", None), left.pop("ssl.keystore.password", "")
    if store:
        # a PKCS#12 file has one password, for itself and for its key
        properties = {"ssl.keystore.type": "PKCS12", "ssl.keystore.location": store}
        return properties | ({"ssl.keystore.password": password} if password else {})
    chain, key = _pem(left, "ssl.certificate"), _pem(left, "ssl.key")
    if chain is None and key is None:
        return {}
    if chain is None or key is None:
        absent = "ssl.certificate.location" if chain is None else "ssl.key.location"
        raise BadSettings(f"{_at(absent)} is not set: a certificate and its key go together")
    if _PKCS1 in key:
        raise BadSettings(
            f"{_at('ssl.key.location')}: an RSA PRIVATE KEY, which Java does not read;"
            " turn it into PKCS#8 with openssl pkcs8 -topk8"
        )
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": chain,
        "ssl.keystore.key": key,
    }


def _pem(left: dict[str, str], name: str) -> str | None:
    path, text = left.pop(f"{name}.location", None), left.pop(f"{name}.pem", None)
    if not path:
        return text
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{_at(name)}.location = {path!r}: cannot be read: {error}") from None


def _verification(left: dict[str, str]) -> dict[str, str]:
    properties = {}
    verify = left.pop("enable.ssl.certificate.verification", "true")
    if verify.lower() != "true":
        name = _at("enable.ssl.certificate.verification")
        raise BadSettings(f"{name} = {verify!r}: Java clients always verify; give ssl.ca.location")
    names = left.pop("ssl.endpoint.identification.algorithm", None)
    if names is not None:
        properties["ssl.endpoint.identification.algorithm"] = "" if names == "none" else names
    return properties
