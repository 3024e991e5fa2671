"""Topics and messages for tests of Kafka, and a broker that wants TLS and a password."""

import ctypes
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import confluent_kafka
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.kafka.settings import KafkaSettings
from runners.artefacts import java_runtime
from runners.stack.servers.kafka import Kafka


def settings_of(server, **properties):
    names = {name.replace("_", "."): value for name, value in properties.items()}
    return KafkaSettings(bootstrap=server.address, properties=names)


def new_topic(server, partitions=1, **config):
    name = f"test-{secrets.token_hex(4)}"
    named = {key.replace("_", "."): str(value) for key, value in config.items()}
    client = AdminClient({"bootstrap.servers": server.address})
    client.create_topics([NewTopic(name, partitions, 1, config=named)])[name].result()
    return name


def send(server, topic, messages, partition=0, **more):
    """Sends (key, value) pairs, or dicts for `produce`, and waits until all are stored."""
    producer = Producer({"bootstrap.servers": server.address, "enable.idempotence": True, **more})
    for message in messages:
        words = message if isinstance(message, dict) else {"key": message[0], "value": message[1]}
        producer.produce(topic, partition=partition, **words)
    assert producer.flush(30) == 0


def transaction(server, topic, values, end="commit"):
    """Writes values in one transaction and commits or aborts it, or leaves it open."""
    words = {"bootstrap.servers": server.address, "transactional.id": secrets.token_hex(4)}
    producer = Producer({**words, "log_level": 2})
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    producer.flush()
    if end == "commit":
        producer.commit_transaction(30)
    elif end == "abort":
        producer.abort_transaction(30)
    return producer


def send_with_header_name(server, topic, name):
    """Sends one message with a header name of any bytes, which the Python client cannot."""
    beside = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    native = ctypes.CDLL(str(next(beside.glob("librdkafka*"))))
    for function in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(native, function).restype = ctypes.c_void_p
    reason = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(native.rd_kafka_conf_new())
    native.rd_kafka_conf_set(conf, b"bootstrap.servers", server.address.encode(), reason, 512)
    client = ctypes.c_void_p(native.rd_kafka_new(0, conf, reason, 512))
    headers = ctypes.c_void_p(native.rd_kafka_headers_new(1))
    size = ctypes.c_ssize_t
    native.rd_kafka_header_add(headers, name, size(len(name)), b"v", size(1))
    in_topic, in_partition, with_value, with_headers, end = 1, 3, 4, 10, 0
    value = [with_value, b"value", ctypes.c_size_t(5)]
    where = [in_topic, topic.encode(), in_partition, 0]
    assert native.rd_kafka_producev(client, *where, *value, with_headers, headers, end) == 0
    assert native.rd_kafka_flush(client, 30_000) == 0
    native.rd_kafka_destroy(client)


def until(true, seconds=60):
    """Waits until `true()`; what it returned."""
    deadline = time.monotonic() + seconds
    while not (result := true()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)
    return result


@dataclass(frozen=True)
class ChangedKafka(Kafka):
    """The stack's broker for seconds, with settings of its own; `{port}` is its port."""

    java_options: tuple[str, ...] = (java_runtime.QUICK,)
    more: str = ""

    def _write_settings(self):
        place = super()._write_settings()
        text = place.read_text()
        changed = [line.partition("=")[0] for line in self.more.splitlines()]
        kept = [line for line in text.splitlines() if line.partition("=")[0] not in changed]
        more = self.more.format(port=self.port, controller=self.port + 1)
        place.write_text("\n".join([*kept, more]) + "\n")
        return place
