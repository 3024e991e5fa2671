"""Kafka settings, which are written in librdkafka's names, said to clients in Java (Flink)."""

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
"""These only say how much librdkafka tells about itself."""

MODULES = {
    "PLAIN": "plain.PlainLoginModule",
    "SCRAM-SHA-256": "scram.ScramLoginModule",
    "SCRAM-SHA-512": "scram.ScramLoginModule",
}
SHADED = "org.apache.flink.kafka.shaded."
_SASL = ("sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password")
_PKCS1 = "-----BEGIN RSA PRIVATE KEY-----"


def java_properties(settings: KafkaSettings, shaded: bool = False) -> dict[str, str]:
    """The same as `client_properties`, by the names of Java clients. `shaded` is for the one
    inside Flink's SQL connector jar, whose login modules bear other names. Private keys are read
    here, so treat the result as a secret. Raises BadSettings for a property Java cannot be told.
    """
    left = client_properties(settings)
    told: dict[str, str] = {}
    told |= _sasl(left, SHADED if shaded else "")
    told |= _trust(left) | _keys(left) | _verification(left)
    for name, value in left.items():
        if name in SAME:
            told[name] = value
        elif name in RENAMED:
            told[RENAMED[name]] = value
        elif name not in SILENT:
            raise BadSettings(f"{_at(name)} = {value!r}: Java clients have no such thing; drop it")
    return told


def _at(name: str) -> str:
    return f"kafka.properties.{name}"


def _sasl(left: dict[str, str], prefix: str) -> dict[str, str]:
    one, other, user, password = (left.pop(name, None) for name in _SASL)
    mechanism = one or other
    if not left.get("security.protocol", "").lower().startswith("sasl"):
        return {}
    if mechanism not in MODULES:
        wanted = ", ".join(MODULES)
        raise BadSettings(f"{_at('sasl.mechanism')} = {mechanism!r}: for Java give one of {wanted}")
    for name, value in (("sasl.username", user), ("sasl.password", password)):
        if value is None:
            raise BadSettings(f"{_at(name)} is not set, and {mechanism} needs it")
    module = f"{prefix}org.apache.kafka.common.security.{MODULES[mechanism]}"
    config = f"{module} required username={_quoted(user)} password={_quoted(password)};"
    return {"sasl.mechanism": mechanism, "sasl.jaas.config": config}


def _quoted(text: str | None) -> str:
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _trust(left: dict[str, str]) -> dict[str, str]:
    place, text = left.pop("ssl.ca.location", None), left.pop("ssl.ca.pem", None)
    if text:
        return {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": text}
    if not place:
        return {}
    if not Path(place).is_file():
        raise BadSettings(f"{_at('ssl.ca.location')} = {place!r}: for Java give one PEM file")
    return {"ssl.truststore.type": "PEM", "ssl.truststore.location": place}


def _keys(left: dict[str, str]) -> dict[str, str]:
    store, password = left.pop("ssl.keystore.location", None), left.pop("ssl.keystore.password", "")
    if store:
        # a PKCS#12 file has one password, for itself and for its key
        told = {"ssl.keystore.type": "PKCS12", "ssl.keystore.location": store}
        return told | ({"ssl.keystore.password": password} if password else {})
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
    place, text = left.pop(f"{name}.location", None), left.pop(f"{name}.pem", None)
    if not place:
        return text
    try:
        return Path(place).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{_at(name)}.location = {place!r}: cannot be read: {error}") from None


def _verification(left: dict[str, str]) -> dict[str, str]:
    told = {}
    verify = left.pop("enable.ssl.certificate.verification", "true")
    if verify.lower() != "true":
        name = _at("enable.ssl.certificate.verification")
        raise BadSettings(f"{name} = {verify!r}: Java clients always verify; give ssl.ca.location")
    names = left.pop("ssl.endpoint.identification.algorithm", None)
    if names is not None:
        told["ssl.endpoint.identification.algorithm"] = "" if names == "none" else names
    return told
