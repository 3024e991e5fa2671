"""A schema registry with Confluent's API: writer schemas by id, and the ids of Odograph's own."""

from __future__ import annotations

import copy
import functools
import json
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import fastavro

from connectors.errors import DependencyFailed
from connectors.kafka.topics import SCHEMA_OF
from connectors.schema_registry.client import Missing, RegistryClient
from connectors.schema_registry.settings import RegistrySettings
from connectors.storage.folder import Folder, folder
from connectors.storage.settings import S3Settings
from schemas import load

BELIEVE_AFTER_S = 1.0
UNKNOWN_FOR_S = 30.0
UNKNOWN_KEPT = 10_000
PATIENCE_S = 5.0
PATIENCE_PER_S = 0.1
HIGHEST_ID = 2**31 - 1
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")
log = logging.getLogger(__name__)


def subject_of(topic: str) -> str:
    """The subject of a topic's values."""
    return f"{topic}-value"


@dataclass
class Stalls:
    """How often (`count`) and how long look-ups waited for a registry that was away, and the last
    reason; `waiting` is 1 while a look-up waits. Metrics read it."""

    waiting: int = 0
    count: int = 0
    reason: str = ""
    waited_s: float = 0.0
    since: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds waited so far, including a wait that still goes on."""
        return self.waited_s + (time.monotonic() - self.since if self.waiting else 0.0)

    def begin(self, reason: str) -> None:
        """A look-up begins to wait, or goes on waiting, for this reason."""
        self.reason = reason
        if not self.waiting:
            self.waiting, self.count, self.since = 1, self.count + 1, time.monotonic()

    def end(self) -> None:
        """The look-up has ended."""
        self.waited_s, self.waiting = self.seconds, 0


@dataclass(frozen=True)
class RegistrySchemas:
    """Writer schemas by id (a `transforms.decode.avro.WriterSchemas`). Only settings, so that it
    can be sent to workers; the schemas are shared by the whole process, and kept in the folder
    `settings.cache`, in a sub-folder for this registry."""

    settings: RegistrySettings

    def lookup(self, schema_id: int) -> dict[str, Any] | None:
        """The Avro record of this id; None when the registry has none or it is no Avro record.

        Blocks while the registry is away, and raises DependencyFailed after `give_up_s`.
        """
        return _shared(self.settings).lookup(schema_id)

    def why(self, schema_id: int) -> str | None:
        """Why the last look-up of this id gave None; None where it did not."""
        return _shared(self.settings).reasons.get(schema_id)

    @property
    def stalls(self) -> Stalls:
        """The waits of this process so far."""
        return _shared(self.settings).stalls


@functools.lru_cache(maxsize=16)
def _shared(settings: RegistrySettings) -> Lookup:
    return Lookup(settings)


@dataclass
class Lookup:
    """Looks in memory, then on disk, then in the registry. A schema never changes its id; an id
    that is absent may still be registered. So the registry is asked again for a second
    (`BELIEVE_AFTER_S`) before an absence is believed, for half a minute (`UNKNOWN_FOR_S`). All such
    seconds come out of one budget (`patience`), so that many invented ids cannot stop the work."""

    settings: RegistrySettings
    stalls: Stalls = field(default_factory=Stalls)
    known: dict[int, dict[str, Any] | None] = field(default_factory=dict)
    unknown: OrderedDict[int, float] = field(default_factory=OrderedDict)
    reasons: dict[int, str] = field(default_factory=dict)
    patience: float = PATIENCE_S
    patience_at: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def lookup(self, schema_id: int) -> dict[str, Any] | None:
        """As RegistrySchemas.lookup."""
        if schema_id in self.known:
            return self.known[schema_id]
        if not 0 < schema_id <= HIGHEST_ID:
            return None
        with self.lock:
            if schema_id in self.known:
                return self.known[schema_id]
            if self.unknown.get(schema_id, 0.0) > time.monotonic():
                return None
            return self._cold(schema_id)

    @functools.cached_property
    def client(self) -> RegistryClient:
        """The client, made for the first id that is not in the cache."""
        return RegistryClient(self.settings)

    @functools.cached_property
    def disk(self) -> Folder | None:
        """The folder of this registry's schemas, None without a cache; ids of another registry mean
        other schemas."""
        if not self.settings.cache:
            return None
        url = str(self.settings.url)
        mark = sha256(url.encode()).hexdigest()[:8]
        readable = _UNSAFE.sub("_", url.partition("://")[2] or url)[:60]
        return folder(self.settings.cache, S3Settings()).child(f"{readable}-{mark}")

    def _cold(self, schema_id: int) -> dict[str, Any] | None:
        writer = self._from_disk(schema_id)
        if writer is None:
            try:
                answer = self._ask(schema_id)
            except Missing as error:
                self._forget_oldest()
                self.unknown[schema_id] = time.monotonic() + UNKNOWN_FOR_S
                self.reasons[schema_id] = str(error)
                return None
            writer, reason = usable(answer)
            if writer is None:
                self.reasons[schema_id] = str(reason)
                log.warning("schema id %d: %s", schema_id, reason)
            else:
                self._to_disk(schema_id, writer)
        self.known[schema_id] = writer
        self.unknown.pop(schema_id, None)
        return writer

    def _forget_oldest(self) -> None:
        while len(self.unknown) >= UNKNOWN_KEPT:
            oldest, _ = self.unknown.popitem(last=False)
            self.reasons.pop(oldest, None)

    def _ask(self, schema_id: int) -> dict[str, Any]:
        path = f"/schemas/ids/{schema_id}"
        pause, waited = BELIEVE_AFTER_S / 7, 0.0
        while True:
            try:
                return dict(self.client.get(path, self.settings.give_up_s, self._stalled))
            except Missing:
                if waited + pause > BELIEVE_AFTER_S * 1.01 or not self._spend(pause):
                    raise
            finally:
                self.stalls.end()
            time.sleep(pause)
            waited, pause = waited + pause, pause * 2

    def _spend(self, seconds: float) -> bool:
        now = time.monotonic()
        grown = self.patience + (now - self.patience_at) * PATIENCE_PER_S
        self.patience, self.patience_at = min(grown, PATIENCE_S), now
        if self.patience < seconds:
            return False
        self.patience -= seconds
        return True

    def _stalled(self, seconds: float, reason: str) -> None:
        self.stalls.begin(reason)
        log.warning("the schema registry is asked again in %.1f s: %s", seconds, reason)

    def _from_disk(self, schema_id: int) -> dict[str, Any] | None:
        if self.disk is None:
            return None
        try:
            data = self.disk.read(f"{schema_id}.avsc")
            return None if data is None else usable({"schema": data.to_pybytes()})[0]
        except DependencyFailed as error:
            log.warning("schema cache: %s", error)
            return None

    def _to_disk(self, schema_id: int, writer: dict[str, Any]) -> None:
        if self.disk is None:
            return
        try:
            self.disk.write(f"{schema_id}.avsc", json.dumps(writer).encode())
        except DependencyFailed as error:
            # the schema is in memory; a full disk costs the next start one request
            log.warning("schema cache: %s", error)


def usable(answer: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """The Avro record schema in a registry's answer and None; or None and why it cannot be used to
    decode messages."""
    kind = answer.get("schemaType") or "AVRO"
    if kind != "AVRO":
        return None, f"is {kind}, not AVRO"
    if answer.get("references"):
        return None, "refers to other schemas; write it with them inside"
    try:
        writer = json.loads(answer["schema"])
        fastavro.parse_schema(copy.deepcopy(writer), named_schemas={})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return None, f"is no Avro schema: {type(error).__name__}: {error}"
    except fastavro.schema.SchemaParseException as error:
        return None, f"is no Avro schema: {error}"
    if not isinstance(writer, dict) or writer.get("type") != "record":
        return None, "is no Avro record"
    return writer, None


def ids(settings: RegistrySettings, topics: Iterable[str] | None = None) -> dict[str, int]:
    """Topic -> the id of the schema with which this version of Odograph writes its values; of all
    topics that have a schema, or of `topics`.

    Each is asked once a process. Raises DependencyFailed where a schema is not registered, or when
    the registry does not answer for `give_up_s` seconds.
    """
    chosen = SCHEMA_OF if topics is None else topics
    return {topic: latest_id(settings, topic) for topic in chosen}


@functools.lru_cache(maxsize=256)
def latest_id(settings: RegistrySettings, topic: str) -> int:
    """As `ids`, for one topic."""
    body = {"schema": json.dumps(load(SCHEMA_OF[topic]).avro), "schemaType": "AVRO"}
    client = RegistryClient(settings)
    try:
        answer = client.post(f"/subjects/{subject_of(topic)}", body, settings.give_up_s)
    except Missing as error:
        raise DependencyFailed(
            f"registry {client.shown}: subject {subject_of(topic)} does not hold this version's"
            f" {SCHEMA_OF[topic]} ({error}): run `odograph schemas register`"
        ) from None
    return int(answer["id"])
