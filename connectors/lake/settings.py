"""How the lake is written by the live sink and compacted."""

from __future__ import annotations

from pydantic import PositiveInt

from connectors.retries import DeliverySettings


class LakeSettings(DeliverySettings):
    """`folder` is a path or `s3://bucket/prefix`. A block of offsets is written soon after it is
    full or has `flush_size` more, and as far as it goes every `rotate_schedule_interval_ms`;
    objects smaller than `compact_bytes` are worth merging."""

    folder: str | None = None
    flush_size: PositiveInt = 20_000
    rotate_schedule_interval_ms: PositiveInt = 180_000
    compact_bytes: PositiveInt = 128 << 20
