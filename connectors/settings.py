"""How the outside world is reached: addresses, security, and secrets by reference only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class MissingSecret(Exception):
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


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(_Section):
    """A Kafka cluster. `properties` go to every client as they are (names of librdkafka, such as
    `security.protocol`, `sasl.mechanism`, `sasl.username`, `ssl.ca.location`); `secrets` are the
    same, but by reference (`sasl.password: env:KAFKA_PASSWORD`)."""

    bootstrap: str | None = None
    properties: dict[str, str] = Field(default_factory=dict)
    secrets: dict[str, SecretReference] = Field(default_factory=dict)


class TopicSettings(_Section):
    """How topics are made. `single_node` allows replication 1, for one broker on a laptop."""

    partitions: PositiveInt = 12
    replication: PositiveInt = 3
    min_insync: PositiveInt = 2
    retention_hours: PositiveFloat = 48
    single_node: bool = False


class RegistrySettings(_Section):
    """A schema registry with Confluent's API; `cache` is a folder that keeps schemas by id."""

    url: str | None = None
    cache: str | None = None
    user: str | None = None
    password: SecretReference | None = None
    ca_file: str | None = None


class DatabaseSettings(_Section):
    """The operations database. `conninfo` is a libpq connection string without a password; it is
    read again every `refresh_s` and on NOTIFY; a snapshot older than `max_age_s` stops the job."""

    conninfo: str | None = None
    password: SecretReference | None = None
    refresh_s: PositiveFloat = 60
    max_age_s: PositiveFloat = 3600
