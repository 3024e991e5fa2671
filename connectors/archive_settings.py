"""How the exact archive of device topics is written."""

from __future__ import annotations

from pydantic import PositiveInt

from connectors.sink import DeliverySettings


class ArchiveSettings(DeliverySettings):
    """`folder` (`s3://bucket/prefix` or a path) is what `odograph backfill --archive` reads later;
    null leaves the sink out. Records are written at `flush_size` of them, at `flush_bytes`, and
    at the latest `rotate_schedule_interval_ms` after they came, on the wall clock. With
    `old_layout` the old sink's gzip NDJSON is written as well, below `old_folder`
    (null: `old/` in `folder`), for readers that know nothing else."""

    folder: str | None = None
    flush_size: PositiveInt = 20_000
    flush_bytes: PositiveInt = 64 << 20
    rotate_schedule_interval_ms: PositiveInt = 180_000
    old_layout: bool = False
    old_folder: str | None = None
