"""Names of the objects of an archive: topic, arrival hour, partition, first offset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from transforms.model import raw_messages
from transforms.model.fleet_hours import local_hours

TEXT = ("json.gz", "json", "csa.gz", "csa", "txt.gz", "txt")


EXTENSIONS = (*TEXT, "avro", "parquet")


_NAME = re.compile(
    r"(?P<folder>[^/]+)/(?:year=)?(?P<Y>\d{4})/(?:month=)?(?P<m>\d\d)/(?:day=)?(?P<d>\d\d)/"
    r"(?:hour=)?(?P<H>\d\d)/(?P<topic>[^/+]+)\+(?P<partition>\d{1,9})\+(?P<offset>\d{1,19})"
    r"\.(?P<extension>[a-z]+(?:\.gz)?)"
)


class BrokenObject(Exception):
    """An archive object that cannot be read, or not to its end."""


@dataclass(frozen=True)
class ArchiveObject:
    """One object: `name` is its path below `topics/`, `hour` its arrival hour (yyyyMMddHH in the
    fleet's zone) and `hour_ms` the same instant in epoch ms."""

    name: str
    topic: str
    partition: int
    first_offset: str
    extension: str
    hour: str
    hour_ms: int

    @property
    def block(self) -> str:
        """The part of a lake object's name that says which archive object it came from."""
        suffix = "" if self.extension == "json.gz" else "-" + self.extension.replace(".", "-")
        return f"{self.hour}-{self.first_offset}{suffix}"

    @property
    def lake_name(self) -> str:
        """Name of the lake objects written from this object."""
        return f"{self.stem}.parquet"

    @property
    def stem(self) -> str:
        """The same without an ending."""
        return f"{self.topic}+{self.partition}+{self.block}"

    @property
    def source(self) -> raw_messages.Source:
        """Where its lines come from."""
        return raw_messages.Source(self.topic, self.partition, self.name, self.hour_ms)


def parse_name(name: str, zone: str) -> ArchiveObject:
    """The object of this name below `topics/`. Raises BrokenObject for any other name."""
    match = _NAME.fullmatch(name)
    if match is None or match["extension"] not in EXTENSIONS:
        raise BrokenObject(
            "the name is not topic/YYYY/MM/dd/HH/topic+partition+offset.<one of "
            f"{', '.join(EXTENSIONS)}>"
        )
    if match["folder"] != match["topic"]:
        raise BrokenObject(f"topic {match['topic']} lies in the folder of {match['folder']}")
    year, month, day, hour = (int(match[part]) for part in "YmdH")
    try:
        local = datetime(year, month, day, hour, tzinfo=ZoneInfo(zone))
    except ValueError as error:
        raise BrokenObject(f"the folder is no hour: {error}") from None
    return ArchiveObject(
        name,
        match["topic"],
        int(match["partition"]),
        match["offset"],
        match["extension"],
        local.strftime("%Y%m%d%H"),
        round(local.astimezone(UTC).timestamp() * 1000),
    )


BLOCK = 20_000
"""Offsets of one object; a block begins at a multiple."""


LAST_MS = 253_370_764_800_000
"""1 January 9999: a time stamp beyond it has no hour in a calendar."""


@dataclass(frozen=True)
class OffsetBlock:
    """Offsets [start, end) of a partition. `first_offset` stands in the names of its objects: the
    block's first one, a later one where the lake already has what Kafka no longer holds."""

    topic: str
    partition: int
    start: int
    end: int
    first_offset: int

    @property
    def name(self) -> str:
        """How a person names it."""
        return f"{self.topic}/{self.partition}/{self.first_offset}"


def arrival_hours(stamp_ms: np.ndarray, zone: str) -> np.ndarray:
    """int64 yyyyMMddHH, shape (records,), of records with these time stamps."""
    return local_hours(np.clip(stamp_ms, 0, LAST_MS), zone)


def object_name(block: OffsetBlock, hour: int) -> str:
    """Path below topics/ of what arrived in local `hour` (yyyyMMddHH) of a block."""
    text = f"{hour:010d}"
    folder = f"{text[:4]}/{text[4:6]}/{text[6:8]}/{text[8:]}"
    name = f"{block.topic}+{block.partition}+{block.first_offset:010d}.parquet"
    return f"{block.topic}/{folder}/{name}"
