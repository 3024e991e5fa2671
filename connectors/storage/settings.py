"""Settings: how folders on S3 are reached."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.errors import BadSettings


def named_folder(store: str, folder: str | None) -> str:
    """The folder of the sink `store`. Raises BadSettings where it is not set."""
    if not folder:
        raise BadSettings(f"sinks.{store}.folder is not set: give a path or s3://bucket/prefix")
    return folder


@dataclass(frozen=True)
class S3Settings:
    """How to reach S3. Credentials come from the standard AWS sources (environment, profile,
    role), again when a store refuses them; `endpoint` is for S3-compatible stores."""

    endpoint: str | None = None
    region: str | None = None
    connect_timeout_s: float = 5
    request_timeout_s: float = 15
