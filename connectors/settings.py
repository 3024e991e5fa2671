"""How the outside world is reached: addresses, security, and secrets by reference only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

SECRET_PROPERTIES = frozenset(
    {
        "sasl.password", "sasl.oauthbearer.client.secret", "sasl.jaas.config",
        "ssl.key.password", "ssl.key.pem", "ssl.keystore.password",
    }
)  # fmt: skip


class DependencyFailed(Exception):
    """Something outside, such as a store or a broker, did not do what was asked: names it, the
    place and the error."""


class BadSettings(ValueError):
    """A setting that cannot be meant or followed: names it, its value and what to do."""


def named_folder(store: str, folder: str | None) -> str:
    """The folder of a store that lies in one. Raises BadSettings where nobody said it."""
    if not folder:
        raise BadSettings(f"sinks.{store}.folder is not set: give a path or s3://bucket/prefix")
    return folder


class MissingSecret(BadSettings):
    """A secret reference that leads nowhere: names the reference and what to do."""


def _reference(value: str) -> str:
    kind, _, name = value.partition(":")
    if kind not in ("env", "file") or not name:
        raise ValueError("not a reference to a secret: write env:NAME or file:PATH")
    return value


SecretReference = Annotated[str, AfterValidator(_reference)]
"""`env:NAME` (an environment variable) or `file:PATH` (a file's text without its last newline)."""


def secret(reference: str) -> str:
    """What a reference leads to. Raises MissingSecret."""
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = os.environ.get(name)
        if value is None:
            raise MissingSecret(f"{reference}: the environment variable {name} is not set")
        return value
    try:
        return Path(name).read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise MissingSecret(f"{reference}: {error.strerror}") from None


@dataclass(frozen=True)
class S3Settings:
    """How to reach S3. Credentials come from the standard AWS sources (environment, profile,
    role), again when a store refuses them; `endpoint` is for S3-compatible stores."""

    endpoint: str | None = None
    region: str | None = None
    connect_timeout_s: float = 5
    request_timeout_s: float = 15


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeliverySettings(_Section):
    """How long a store is asked again. The waits double from `retry_backoff_ms` to
    `retry_backoff_max_ms`, each shortened by chance; after `max_retries` the work fails and the
    engine repeats it. Names are those of Kafka Connect's sinks where they mean the same."""

    max_retries: NonNegativeInt = 50
    retry_backoff_ms: PositiveInt = 2_000
    retry_backoff_max_ms: PositiveInt = 60_000


class KafkaSettings(_Section):
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
            raise ValueError("bootstrap.servers is given as property: say it as bootstrap")
        return self


class TopicSettings(_Section):
    """How topics are made. `single_node` is for one broker on a laptop: replication and
    min.insync.replicas are then 1, whatever is said here. `set_aside_retention_hours` is that of
    dead-letters, unbound and late, which wait for a person. `max_message_bytes` is what a device
    topic takes; it lies far above what is decoded, so that an oversize message can still be
    stored and becomes a dead letter instead of a lost upload. `timestamps` LogAppendTime keeps
    every sender's clock out of retention and of looking up offsets by time."""

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


class RegistrySettings(_Section):
    """A schema registry with Confluent's API; `cache` is a folder that keeps schemas by id. A
    registry that does not answer is asked again for `give_up_s` before the work fails."""

    url: str | None = None
    cache: str | None = None
    user: str | None = None
    password: SecretReference | None = None
    ca_file: str | None = None
    give_up_s: PositiveFloat = 300


class DatabaseSettings(_Section):
    """The operations database. `conninfo` is a libpq connection string without a password; it is
    read again every `refresh_s` and on NOTIFY; a snapshot older than `max_age_s` stops the job."""

    conninfo: str | None = None
    password: SecretReference | None = None
    refresh_s: PositiveFloat = 60
    max_age_s: PositiveFloat = 3600
