"""Kafka 4.1: one KRaft node that is broker and controller, on loopback."""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from runners.artefacts import java_runtime
from runners.artefacts.fetch import PINS, kept, maven_jars, run
from runners.stack.processes import LOOPBACK, require_free
from runners.stack.servers.one_process import OneProcess

VERSION = "4.1.1"
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
num.partitions=4
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
transaction.max.timeout.ms=3600000
log.retention.hours=48
"""


@dataclass(frozen=True)
class Kafka(OneProcess):
    """A Kafka node with its data in `folder`; it uses `port` and the next port. `java_options` are
    further options of Java."""

    port: int = 9092
    heap_mb: int = 512
    java_options: tuple[str, ...] = ()

    name: ClassVar[str] = "kafka"
    span: ClassVar[int] = 2

    @property
    def address(self) -> str:
        """host:port for `bootstrap.servers`."""
        return f"{LOOPBACK}:{self.port}"

    def fetch(self) -> Path:
        """Folder with Kafka's jars."""
        java_runtime.fetch(self.cache)
        return kept(
            self.cache,
            f"kafka-{VERSION}",
            lambda folder: maven_jars(folder, PINS / "kafka" / "pom.xml", PINS / "kafka.sha256"),
        )

    def start(self) -> None:
        """Start it, with the data of earlier starts; `ready` waits for it."""
        require_free(self.name, self.port, self.span)
        settings = self._write_settings()
        if not (self.folder / "data" / "meta.properties").exists():
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            form = ["format", f"--cluster-id={cluster}", "--config", str(settings)]
            command = self._java(*java_runtime.LIGHT, "kafka.tools.StorageTool", *form)
            run(command, f"Kafka's storage could not be made in {self.folder}")
        heap = (f"-Xms{self.heap_mb}m", f"-Xmx{self.heap_mb}m", "-XX:+UseG1GC")
        self.process.start(self._java(*heap, *self.java_options, "kafka.Kafka", str(settings)))

    def _java(self, *words: str) -> list[str]:
        return [
            str(java_runtime.fetch(self.cache) / "bin" / "java"),
            *("-cp", f"{self.fetch()}/*"),
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            *words,
        ]

    def ready(self, timeout_s: float = 60) -> None:
        """Wait until the broker answers a request for metadata."""
        client = AdminClient(
            {"bootstrap.servers": self.address, "log_level": 0}, error_cb=lambda error: None
        )

        def healthy() -> bool:
            client.poll(0)
            try:
                return bool(client.list_topics(timeout=1).brokers)
            except KafkaException:
                return False

        self.process.wait(healthy, timeout_s)

    def _write_settings(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "server.properties"
        text = PROPERTIES.format(
            host=LOOPBACK, port=self.port, controller=self.port + 1, logs=self.folder / "data"
        )
        path.write_text(text)
        return path
