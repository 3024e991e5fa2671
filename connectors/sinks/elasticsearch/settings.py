"""How Elasticsearch is reached and what is kept there."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from connectors.retries import DeliverySettings
from connectors.settings import SecretReference

MOST_BYTES = 90 << 20
"""Elasticsearch refuses requests of more than 100 MB."""


class ElasticsearchSettings(DeliverySettings):
    """A cluster at `hosts` (`http(s)://host:port`), entered with an API key (the encoded form) or
    a user's password. A bulk request holds at most `batch_size` rows and `batch_bytes` bytes
    before compression; rows wait at most `linger_ms` for others. Indices are named
    `index_prefix`… and kept `searchable_days`. A state of a vehicle that lies more than `ahead_s`
    in the future is a wrong clock's and gives way. `request_timeout_s` is for one request.
    `replicas` are copies of each index beside the first one. `index_by` day, a row lies in the
    index of its UTC date; by rollover, in the generation that took new rows when it came first.
    `lifecycle_policy` is the name of an ILM policy for these indices, where the cluster has ILM."""

    hosts: tuple[str, ...] = ()
    api_key: SecretReference | None = None
    user: str | None = None
    password: SecretReference | None = None
    ca_file: str | None = None
    index_prefix: str = ""
    batch_size: PositiveInt = 2_000
    batch_bytes: int = Field(5 << 20, ge=64 << 10, le=MOST_BYTES)
    linger_ms: NonNegativeInt = 1_000
    max_in_flight_requests: PositiveInt = 4
    searchable_days: PositiveInt = 30
    ahead_s: float = Field(3_600, gt=0, le=366 * 86_400)
    request_timeout_s: PositiveFloat = 30
    compress: bool = True
    shards: PositiveInt = 1
    replicas: NonNegativeInt = 1
    index_by: Literal["day", "rollover"] = "day"
    lifecycle_policy: str | None = None

    @field_validator("hosts")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            parts = urlsplit(host)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{host!r} is no address: write http(s)://host:port")
            if parts.username or parts.password:
                raise ValueError("a host holds a user: give user and password, or api_key")
        return value

    @field_validator("index_prefix")
    @classmethod
    def _nameable(cls, value: str) -> str:
        if value and not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,99}", value):
            raise ValueError("lower-case letters, digits, - _ . only, a letter or digit first")
        return value

    @model_validator(mode="after")
    def _one_way_in(self) -> ElasticsearchSettings:
        if self.api_key and (self.user or self.password):
            raise ValueError("give api_key, or user and password, not both")
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together")
        return self
