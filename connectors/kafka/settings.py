"""Settings: how Kafka is reached, and how topics are made."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from connectors.settings import SecretReference, Section

SECRET_PROPERTIES = frozenset(
    {
        "sasl.password", "sasl.oauthbearer.client.secret", "sasl.jaas.config",
        "ssl.key.password", "ssl.key.pem", "ssl.keystore.password",
    }
)  # fmt: skip


class KafkaSettings(Section):
    """A Kafka cluster. `properties` go to every client as they are (names of librdkafka, such as
    `security.protocol`, `sasl.mechanism`, `sasl.username`, `ssl.ca.location`); `secrets` are the
    same, but by reference (`sasl.password: env:KAFKA_PASSWORD`)."""

    bootstrap: str | None = None
    properties: dict[str, str] = Field(default_factory=dict)
    secrets: dict[str, SecretReference] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _secrets_by_reference(self) -> KafkaSettings:
        for name in SECRET_PROPERTIES & self.properties.keys():
            raise ValueError(f"properties.{name} is a secret: give it in secrets, by reference")
        for name in self.secrets.keys() & self.properties.keys():
            raise ValueError(f"{name} is given in properties and in secrets: keep one")
        if "bootstrap.servers" in self.properties or "bootstrap.servers" in self.secrets:
            raise ValueError("bootstrap.servers is given as property: give it as bootstrap")
        return self


class TopicSettings(Section):
    """How topics are made. `single_node` is for one broker on a laptop: replication and
    min.insync.replicas are then 1, whatever the settings are. `set_aside_retention_hours` is that
    of dead-letters, unbound and late, which wait for a person. `max_message_bytes` is what a device
    topic takes; it lies far above what is decoded, so that an oversize message can still be stored
    and becomes a dead letter instead of a lost upload. `timestamps` LogAppendTime keeps every
    sender's clock out of retention and of looking up offsets by time."""

    partitions: PositiveInt = 12
    replication: PositiveInt = 3
    min_insync: PositiveInt = 2
    retention_hours: PositiveFloat = 48
    set_aside_retention_hours: PositiveFloat = 336
    max_message_bytes: PositiveInt = 8 << 20
    timestamps: Literal["CreateTime", "LogAppendTime"] = "LogAppendTime"
    single_node: bool = False

    @model_validator(mode="after")
    def _a_broker_may_be_lost(self) -> TopicSettings:
        if self.single_node:
            return self
        if self.replication < 2:
            raise ValueError("replication 1 loses uploads with a broker: 2 or more, or single_node")
        if self.min_insync > self.replication:
            raise ValueError(
                f"min_insync {self.min_insync} is more than replication {self.replication}:"
                " nothing could ever be written"
            )
        return self
