"""Topics and messages for tests of Kafka, and a broker that wants TLS and a password."""

import contextlib
import secrets
import time
from dataclasses import dataclass

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.settings import KafkaSettings
from runners.stack.kafka import Kafka


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


def until(true, seconds=60):
    """Waits until `true()`; what it returned."""
    deadline = time.monotonic() + seconds
    while not (result := true()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)
    return result


@dataclass(frozen=True)
class ChangedKafka(Kafka):
    """The stack's broker with settings of its own; `{port}` is its port."""

    more: str = ""

    def _write_settings(self):
        place = super()._write_settings()
        text = place.read_text()
        changed = [line.partition("=")[0] for line in self.more.splitlines()]
        kept = [line for line in text.splitlines() if line.partition("=")[0] not in changed]
        more = self.more.format(port=self.port, controller=self.port + 1)
        place.write_text("\n".join([*kept, more]) + "\n")
        return place


@contextlib.contextmanager
def running(server):
    server.start()
    try:
        server.ready()
        yield server
    finally:
        server.stop()
