"""What a backfill was asked to do, checked, and what it is to read; the same for all engines."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from connectors.archive.names import BLOCK
from connectors.archive.offset_blocks import (
    SCHEME,
    OffsetBlocks,
    Spans,
    list_blocks,
    parse_ranges,
    spans_between,
)
from connectors.archive.read import Listing, list_objects
from connectors.errors import BadArguments, DependencyFailed
from connectors.kafka.topics import device_topic
from connectors.lake.state import Reached
from connectors.retries import DeliverySettings
from connectors.sinks.catalogue import CATALOGUE
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from pipelines.backfill.spec import BackfillSpec
from runners.backfill.lake_lock import SPOOL_PREFIX
from runners.config import Config
from schemas import MESSAGE_TYPES

LEDGER = "ledger.json"


def source(
    archive: str | None, brokers: str | None, offsets: str | None, config: Config
) -> tuple[str, Spans | None]:
    """What --archive, --kafka and --offsets lead to: `archive` and `offsets` of a run."""
    brokers = brokers or (None if archive else config.kafka.bootstrap)
    if archive and brokers:
        raise BadArguments(f"--archive {archive} and --kafka {brokers}: give one of them")
    if brokers:
        return SCHEME + brokers, parse_ranges(offsets) if offsets else None
    if archive is None:
        raise BadArguments("neither --archive nor --kafka: say what to read")
    if offsets:
        raise BadArguments(f"--offsets {offsets}: they are of Kafka, and an archive is to be read")
    return archive, None


def wanted_types(types: Sequence[str] | None) -> tuple[str, ...]:
    """Message types in their order, all without any. Raises BadArguments for an unknown one."""
    unknown = [name for name in types or () if name not in MESSAGE_TYPES]
    if unknown:
        raise BadArguments(f"--types {unknown[0]!r}: expected some of {', '.join(MESSAGE_TYPES)}")
    return tuple(name for name in MESSAGE_TYPES if not types or name in types)


def checked_archive(archive: str, settings: S3Settings) -> str:
    """Where the archive is, in full. Raises BadArguments or DependencyFailed where it is not."""
    place = folder(archive, settings)
    if not place.child("topics").exists():
        if place.local:
            raise BadArguments(f"--archive {archive}: holds no folder topics/")
        raise DependencyFailed(f"--archive {archive}: there is no {archive}/topics/")
    return place.uri


def checked_span(start: datetime | None, end: datetime | None) -> None:
    """Raises BadArguments for a span that ends before it begins."""
    if start and end and start >= end:
        raise BadArguments(f"--from {start.isoformat()} is not before --to {end.isoformat()}")


def stores_of(names: Sequence[str], config: Config) -> tuple[DeliverySettings, ...]:
    """Settings of the stores besides the lake that facts shall go to. Raises BadArguments."""
    unknown = [name for name in names if name not in STORES]
    if unknown:
        raise BadArguments(f"--to {unknown[0]!r}: expected some of {', '.join(STORES)}")
    if names and LAKE not in names:
        raise BadArguments(
            f"--to {','.join(names)}: say {LAKE} too, without it nobody knows what a row was before"
        )
    found = config.sinks.configured()
    absent = [name for name in names if name != LAKE and name not in found]
    if absent:
        raise BadArguments(f"--to {absent[0]}: sinks.{absent[0]} of the settings is not set")
    return tuple(found[name] for name in STORES if name in names and name != LAKE)


def job_of(
    archive: str,
    bindings: str,
    lake: str,
    spool: str,
    types: tuple[str, ...],
    config: Config,
    stores: Sequence[str] = (),
) -> BackfillSpec:
    """The job. Raises BadBindings or DependencyFailed where its bindings cannot be read."""
    job = BackfillSpec(
        archive=archive,
        bindings=bindings,
        lake=lake,
        spool=spool,
        rules=config.rules,
        types=types,
        zone=config.fleet_zone,
        schemas=config.schemas,
        judge_within_days=config.judge_within_days,
        settings=config.s3.settings(),
        kafka=config.kafka,
        registry=config.registry,
        block=BLOCK,
        stores=stores_of(stores, config),
        database=config.bindings_database,
        known_ms=time.time_ns() // 1_000_000,
    )
    _ = job.terminals
    return job


def listing_of(
    job: BackfillSpec, start: datetime | None, end: datetime | None, offsets: Spans | None = None
) -> Listing | OffsetBlocks:
    """What the job is to read: arrivals of [start, end), or offsets of Kafka."""
    if not job.live:
        return archived(job, start, end)
    topics = [device_topic(name) for name in job.types]
    spans = offsets or spans_between(job.brokers, topics, start, end)
    return list_blocks(job.brokers, spans, Reached(job.state, job.block), job.block)


def archived(job: BackfillSpec, start: datetime | None, end: datetime | None) -> Listing:
    """What the job is to read of an archive: arrivals of [start, end)."""
    return list_objects(job.topics, job.zone, frozenset(job.types), start, end)


@contextlib.contextmanager
def spool_of(config: Config, lake: str, local: bool) -> Iterator[str]:
    """A folder for samples between two steps, gone on leaving: that of the settings, else a
    temporary one where all workers are `local`, else beside the lake."""
    if config.spool is None and local:
        with tempfile.TemporaryDirectory(prefix=SPOOL_PREFIX) as temporary:
            yield temporary
        return
    place = config.spool or lake.rstrip("/") + "/_state/spool"
    uri = f"{place}/{SPOOL_PREFIX}{uuid.uuid4().hex}"
    try:
        yield uri
    finally:
        folder(uri, config.s3.settings()).clear()


def write_ledger(ledger: dict[str, Any], job: BackfillSpec) -> None:
    """Keep the ledger of the last run beside the lake's state, where the caller finds it."""
    job.state.folder.write(LEDGER, json.dumps(ledger, indent=1).encode())


def with_names(ledger: dict[str, Any], listing: Listing | OffsetBlocks) -> dict[str, Any]:
    """The ledger of all that was listed. What was not even opened is broken too: objects whose
    names say nothing, lost offsets."""
    named = [{"name": name, "reason": reason} for name, reason in listing.broken]
    objects = ledger["objects"]
    broken = sorted([*objects["broken"], *named], key=lambda one: one["name"])
    return {**ledger, "objects": {**objects, "broken": broken}}


LAKE = "lake"


STORES = tuple(entry.name for entry in CATALOGUE.values() if entry.tables)
"""What `--to` may name: stores of facts."""
