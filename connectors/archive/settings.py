"""How the exact archive of device topics is written."""

from __future__ import annotations

from pydantic import PositiveInt, model_validator

from connectors.retries import DeliverySettings


class ArchiveSettings(DeliverySettings):
    """`folder` (`s3://bucket/prefix` or a path) is what `odograph backfill --archive` reads later;
    null leaves the sink out. Records are written at `flush_size` of them, at `flush_bytes`, and
    at the latest `rotate_schedule_interval_ms` after they came, on the wall clock. With
    `old_layout` the old sink's gzip NDJSON is written as well, below `old_folder`
    (null: `old/` in `folder`), for readers that know nothing else. `max_in_flight_requests` is
    partitions written at once."""

    folder: str | None = None
    flush_size: PositiveInt = 20_000
    flush_bytes: PositiveInt = 64 << 20
    rotate_schedule_interval_ms: PositiveInt = 180_000
    max_in_flight_requests: PositiveInt = 20
    old_layout: bool = False
    old_folder: str | None = None

    @model_validator(mode="after")
    def _two_layouts_two_folders(self) -> ArchiveSettings:
        if (
            self.folder
            and self.old_folder
            and self.folder.rstrip("/") == self.old_folder.rstrip("/")
        ):
            raise ValueError("old_folder is folder: a backfill would read every record twice")
        return self
