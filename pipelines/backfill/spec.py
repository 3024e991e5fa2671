"""What a backfill reads, writes and follows: plain values that travel from the command to the
workers and are opened there."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connectors.archive.names import BLOCK, ArchiveObject
from connectors.archive.offset_blocks import SCHEME, Spans
from connectors.errors import DependencyFailed
from connectors.kafka.settings import KafkaSettings
from connectors.lake.state import State
from connectors.operations_db.bindings_file import Terminals, load_bindings
from connectors.operations_db.settings import DatabaseSettings
from connectors.retries import DeliverySettings
from connectors.schema_registry.lookup import RegistrySchemas, usable
from connectors.schema_registry.settings import RegistrySettings
from connectors.storage.folder import Folder, folder
from connectors.storage.settings import S3Settings
from schemas import MESSAGE_TYPES
from transforms.decode.avro import WriterSchemas
from transforms.decode.decoder import Decoder
from transforms.model.thresholds import Rules


@dataclass(frozen=True)
class SchemaDirectory:
    """Writer schemas by id from files `<id>.avsc`; a file that is not there is an unknown id."""

    uri: str | None
    settings: S3Settings

    def lookup(self, schema_id: int) -> dict[str, Any] | None:
        """The writer schema of this id. Raises DependencyFailed when the folder is away, or when
        the file is no Avro record."""
        if self.uri is None:
            return None
        return _writer_schema(self.uri, self.settings, schema_id)


@functools.lru_cache(maxsize=1024)
def _writer_schema(uri: str, settings: S3Settings, schema_id: int) -> dict[str, Any] | None:
    place = folder(uri, settings)
    if not place.exists():
        raise DependencyFailed(f"schema directory {uri} is not there")
    data = place.read(f"{schema_id}.avsc")
    if data is None:
        return None
    writer, why_not = usable({"schema": data.to_pybytes()})
    if why_not is not None:
        raise DependencyFailed(
            f"{uri}/{schema_id}.avsc {why_not}: put the schema there that the messages of id "
            f"{schema_id} were written with"
        )
    return writer


@functools.lru_cache(maxsize=2)
def _terminals(path: str, settings: S3Settings) -> Terminals:
    return load_bindings(path, settings)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class BackfillSpec:
    """One backfill: where from, where to, by which rules; built once by the command.

    `archive` is a folder, or `kafka://` and the brokers, which `kafka` says how to speak to. Read
    are message `types` that arrived in [`start`, `end`) (aware; None: no bound), or `offsets` of
    Kafka, where `block` offsets are one object. Facts go to the `lake` and to `stores`, as known
    at `known_ms` (epoch ms). Samples wait in the `spool` between two steps: the folder that the
    settings name ("": none), and once the run has begun its own (`request.with_spool`)."""

    archive: str
    bindings: str
    lake: str
    spool: str = ""
    rules: Rules = field(default_factory=Rules)
    types: tuple[str, ...] = MESSAGE_TYPES
    start: datetime | None = None
    end: datetime | None = None
    offsets: Spans | None = None
    zone: str = "Asia/Seoul"
    schemas: str | None = None
    judge_within_days: float | None = None
    settings: S3Settings = field(default_factory=S3Settings)
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    block: int = BLOCK
    stores: tuple[DeliverySettings, ...] = ()
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    known_ms: int = field(default_factory=_now_ms)

    @property
    def reads_kafka(self) -> bool:
        """Whether it reads the device topics themselves, and no archive of them."""
        return self.archive.startswith(SCHEME)

    @property
    def brokers(self) -> KafkaSettings:
        """The cluster it reads from."""
        return self.kafka.model_copy(update={"bootstrap": self.archive.removeprefix(SCHEME)})

    @property
    def topics(self) -> Folder:
        """The archive's objects."""
        return folder(self.archive, self.settings).child("topics")

    @property
    def tables(self) -> Folder:
        """The lake."""
        return folder(self.lake, self.settings)

    @property
    def state(self) -> State:
        """What the lake remembers."""
        return State(self.tables.child("_state"))

    @property
    def scratch(self) -> Folder:
        """Where decoded samples wait between two steps."""
        return folder(self.spool, self.settings)

    @property
    def terminals(self) -> Terminals:
        """The bindings snapshot, loaded once a process."""
        return _terminals(self.bindings, self.settings)

    @property
    def decoder(self) -> Decoder:
        """How raw messages are read; writer schemas come from the schema directory where there
        is one, else from the registry."""
        writers: WriterSchemas = SchemaDirectory(self.schemas, self.settings)
        if self.schemas is None and self.registry.url is not None:
            writers = RegistrySchemas(self.registry)
        return Decoder(self.rules.bounds, self.terminals.known, writers)


@dataclass(frozen=True)
class Scanned:
    """What came of reading one object for some message types. `dead`, `filtered`, `dropped` count
    uploads, uploads and samples; `broken` says why it could not be read to its end; `files` are
    those of its dead letters."""

    one: ArchiveObject
    types: tuple[str, ...]
    uploads: int
    dead: int
    filtered: int
    dropped: int
    broken: str | None
    files: tuple[str, ...]
    offsets: tuple[int, ...] = ()
