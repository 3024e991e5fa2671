"""The spec of a live job: plain values that travel to workers and are opened there."""

from __future__ import annotations

from dataclasses import dataclass, field

from connectors.kafka.java_properties import java_properties
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import DEVICE_TOPICS
from connectors.operations_db.settings import DatabaseSettings
from connectors.retries import DeliverySettings
from connectors.schema_registry.settings import RegistrySettings
from connectors.storage.settings import S3Settings
from transforms.model.thresholds import Rules

HOUR_MS = 3_600_000


@dataclass(frozen=True)
class LiveJobSpec:
    """One live job. `bindings` is a file to use instead of the operations database; `store` says
    where a sink writes to, in folders of hours of `zone`; secrets are references until a worker
    opens them. Times are in milliseconds."""

    name: str
    kafka: KafkaSettings
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    s3: S3Settings = field(default_factory=S3Settings)
    bindings: str | None = None
    store: DeliverySettings | None = None
    rules: Rules = field(default_factory=Rules)
    zone: str = "Asia/Seoul"
    device_topics: tuple[str, ...] = DEVICE_TOPICS
    lateness_ms: int = 24 * HOUR_MS
    outage_ms: int = 24 * HOUR_MS
    revise_after_ms: int = 5000
    minutes_every_ms: int = 10_000
    transaction_timeout_ms: int = 900_000

    @property
    def keep_ms(self) -> int:
        """How long an upload is remembered after it came: as long as another may come that is
        not late, and the job may stand still meanwhile."""
        return self.lateness_ms + self.outage_ms

    @property
    def group(self) -> str:
        """Its Kafka consumer group."""
        return f"odograph-{self.name}"

    def source_properties(self) -> dict[str, str]:
        """Of the Kafka consumer, by Java's names."""
        return java_properties(self.kafka) | {
            "group.id": self.group,
            "client.id.prefix": self.group,
            "isolation.level": "read_committed",
            "partition.discovery.interval.ms": "60000",
        }

    def sink_properties(self) -> dict[str, str]:
        """Of the Kafka producer, by Java's names."""
        return {
            "linger.ms": "20",
            "batch.size": "262144",
            "compression.type": "lz4",
            "max.request.size": "10485760",
            **java_properties(self.kafka),
            "transaction.timeout.ms": str(self.transaction_timeout_ms),
        }
