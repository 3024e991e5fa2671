"""A backfill's spec, completed and checked, and what it is to read; the same for all engines."""

from __future__ import annotations

import contextlib
import json
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

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
from pipelines.backfill.spec import BackfillSpec
from runners.backfill.lake_lock import SPOOL_PREFIX
from runners.config import Config
from schemas import MESSAGE_TYPES

LEDGER = "ledger.json"
LAKE = "lake"
STORES = tuple(entry.name for entry in CATALOGUE.values() if entry.tables)
"""What `--to` may name: stores of facts."""


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


def with_settings(spec: BackfillSpec, config: Config, stores: Sequence[str] = ()) -> BackfillSpec:
    """The spec with what the settings file says: rules, servers, folders, and of the `stores` that
    facts shall go to (names, the lake among them) how they are reached. Raises BadArguments."""
    return replace(
        spec,
        spool=config.spool or "",
        rules=config.rules,
        zone=config.fleet_zone,
        schemas=config.schemas,
        judge_within_days=config.judge_within_days,
        settings=config.s3.settings(),
        kafka=config.kafka,
        registry=config.registry,
        stores=_stores(stores, config),
        database=config.bindings_database,
    )


def checked(spec: BackfillSpec) -> BackfillSpec:
    """The spec with all folders as whole uris, as workers see them, and its types in their order,
    all where it names none. Raises BadArguments for what cannot be meant, DependencyFailed where
    the archive cannot be looked at."""
    unknown = [name for name in spec.types if name not in MESSAGE_TYPES]
    if unknown:
        raise BadArguments(f"--types {unknown[0]!r}: expected some of {', '.join(MESSAGE_TYPES)}")
    if spec.start and spec.end and spec.start >= spec.end:
        raise BadArguments(
            f"--from {spec.start.isoformat()} is not before --to {spec.end.isoformat()}"
        )
    if spec.offsets and (spec.start or spec.end):
        raise BadArguments("--offsets with --from or --to: give one or the other")
    if not spec.reads_kafka:
        _check_archive(spec)

    def whole(uri: str) -> str:
        return folder(uri, spec.settings).uri

    return replace(
        spec,
        archive=spec.archive if spec.reads_kafka else whole(spec.archive),
        bindings=whole(spec.bindings),
        lake=whole(spec.lake),
        spool=spec.spool and whole(spec.spool),
        schemas=spec.schemas and whole(spec.schemas),
        types=tuple(name for name in MESSAGE_TYPES if not spec.types or name in spec.types),
    )


def _check_archive(spec: BackfillSpec) -> None:
    if not spec.topics.exists():
        if spec.topics.local:
            raise BadArguments(f"--archive {spec.archive}: holds no folder topics/")
        raise DependencyFailed(f"--archive {spec.archive}: there is no {spec.archive}/topics/")


def _stores(names: Sequence[str], config: Config) -> tuple[DeliverySettings, ...]:
    unknown = [name for name in names if name not in STORES]
    if unknown:
        raise BadArguments(f"--to {unknown[0]!r}: expected some of {', '.join(STORES)}")
    if names and LAKE not in names:
        raise BadArguments(
            f"--to {','.join(names)}: say {LAKE} too, without it nobody knows what a row was before"
        )
    configured = config.sinks.configured()
    absent = [name for name in names if name != LAKE and name not in configured]
    if absent:
        raise BadArguments(f"--to {absent[0]}: sinks.{absent[0]} of the settings is not set")
    return tuple(configured[name] for name in STORES if name in names and name != LAKE)


def listing_of(spec: BackfillSpec) -> Listing | OffsetBlocks:
    """What is to be read. Raises DependencyFailed; BadSettings for partitions that are not."""
    if not spec.reads_kafka:
        return archived(spec)
    topics = [device_topic(name) for name in spec.types]
    spans = spec.offsets or spans_between(spec.brokers, topics, spec.start, spec.end)
    return list_blocks(spec.brokers, spans, Reached(spec.state, spec.block), spec.block)


def archived(spec: BackfillSpec) -> Listing:
    """What is to be read of an archive. Raises DependencyFailed."""
    return list_objects(spec.topics, spec.zone, frozenset(spec.types), spec.start, spec.end)


@contextlib.contextmanager
def with_spool(spec: BackfillSpec, local: bool) -> Iterator[BackfillSpec]:
    """The spec with a spool of this run alone, gone on leaving: below that of the settings, else
    a temporary folder where all workers are `local`, else beside the lake."""
    if not spec.spool and local:
        with tempfile.TemporaryDirectory(prefix=SPOOL_PREFIX) as temporary:
            yield replace(spec, spool=temporary)
        return
    shared = spec.spool or f"{spec.lake.rstrip('/')}/_state/spool"
    begun = replace(spec, spool=f"{shared}/{SPOOL_PREFIX}{uuid.uuid4().hex}")
    try:
        yield begun
    finally:
        begun.scratch.clear()


def write_ledger(ledger: dict[str, Any], spec: BackfillSpec) -> None:
    """Keep the ledger of the last run beside the lake's state, where the caller finds it."""
    spec.state.folder.write(LEDGER, json.dumps(ledger, indent=1).encode())


def with_names(ledger: dict[str, Any], listing: Listing | OffsetBlocks) -> dict[str, Any]:
    """The ledger of all that was listed. What was not even opened is broken too: objects whose
    names say nothing, lost offsets."""
    unopened = [{"name": name, "reason": reason} for name, reason in listing.broken]
    objects = ledger["objects"]
    broken = sorted([*objects["broken"], *unopened], key=lambda entry: entry["name"])
    return {**ledger, "objects": {**objects, "broken": broken}}
