"""How BigQuery is reached and written. Who we are comes from Application Default Credentials."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from connectors.retries import DeliverySettings

LARGEST_APPEND = 9 << 20
"""Bytes; BigQuery takes requests of 10 MB, and a request is more than its rows."""


class BigQuerySettings(DeliverySettings):
    """The dataset `project`.`dataset` in `location` (null: BigQuery's own default).

    `mode` is how rows get there: `storage_write`, or `insert_rows` for small deployments. A write
    is cut into requests of at most `batch_size` rows and `batch_bytes` bytes; a job hands on what
    has waited for `linger_ms`. A table has at most `max_in_flight_requests` appends without an
    answer. A request that is not answered within `request_timeout_s` is asked again.
    `api_endpoint` (http(s)://host:port) and `storage_endpoint` (host:port) are null but for an
    emulator; `insecure`, without TLS and credentials, is for one on this machine alone.
    """

    project: str | None = None
    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,1024}$")] = "odograph"
    location: str | None = None
    mode: Literal["storage_write", "insert_rows"] = "storage_write"
    batch_size: PositiveInt = 20_000
    batch_bytes: Annotated[int, Field(gt=0, le=LARGEST_APPEND)] = 4 << 20
    linger_ms: PositiveInt = 1_000
    max_in_flight_requests: PositiveInt = 20
    request_timeout_s: PositiveFloat = 60
    api_endpoint: str | None = None
    storage_endpoint: str | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _open_on_this_machine_alone(self) -> BigQuerySettings:
        if not self.insecure:
            return self
        for name in ("api_endpoint", "storage_endpoint"):
            value = getattr(self, name)
            if value is None:
                raise ValueError(f"insecure is for an emulator: give its {name}")
            if not _loopback(value):
                raise ValueError(f"{name} {value!r} is not on this machine, so not insecure")
        return self


def _loopback(address: str) -> bool:
    host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
