"""Names of the objects of a lake."""

from __future__ import annotations

import re

from connectors.archive.names import parse_name
from connectors.kafka.topics import MINUTES


def hour_folder(hour: int) -> str:
    """`date=YYYY-MM-DD/hour=HH` of yyyyMMddHH."""
    text = f"{hour:010d}"
    return f"date={text[:4]}-{text[4:6]}-{text[6:8]}/hour={text[8:]}"


_MERGED = re.compile(r"merged-(\d{4})\.parquet")


def merged_name(number: int) -> str:
    """Name of an hour's merged object; only the last one may still grow."""
    return f"merged-{number:04d}.parquet"


def is_merged(name: str) -> bool:
    """Whether an object is a merged one; `name` may have folders before it."""
    return _MERGED.fullmatch(name.rpartition("/")[2]) is not None


def lake_name(archive_object: str) -> str:
    """Name of the lake objects of an archive object."""
    return parse_name(archive_object, "UTC").lake_name


def object_of(hour: int) -> str:
    """Name of an hour's object (yyyyMMddHH)."""
    return f"vehicle_minutes/{hour_folder(hour)}/{MINUTES}+0+{hour:010d}.parquet"
