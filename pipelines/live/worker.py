"""What a worker of a live job is connected to: bindings, schemas, topics. Opened once a process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pyarrow as pa

from connectors.kafka.bounded_read import MessagePosition, OffsetsGone, read_positions
from connectors.operations_db.refresh import Holder, Snapshot, held, held_file
from connectors.schema_registry.lookup import RegistrySchemas, latest_id
from pipelines.live.spec import LiveJobSpec
from transforms.decode.decoder import Decoder
from transforms.model.raw_messages import SCHEMA as RAW
from transforms.model.raw_messages import concat

_LOG = logging.getLogger(__name__)


class WorkerContext:
    """Connections of one worker process; the stages in it share them."""

    def __init__(self, live: LiveJobSpec) -> None:
        self._live = live
        self._holder: Holder | None = None
        self.writers = RegistrySchemas(live.registry)

    def bind(self) -> None:
        """Get a first snapshot of the bindings. Raises DependencyFailed when there is none."""
        if self._holder is None:
            file = self._live.bindings
            self._holder = held_file(file, self._live.s3) if file else held(self._live.database)

    def now(self) -> tuple[Decoder, Snapshot]:
        """How to decode and bind this batch; taken once a batch, so that it sees one snapshot.
        Raises DependencyFailed when the snapshot is older than allowed."""
        if self._holder is None:
            raise RuntimeError("the stage did not bind before its first batch")
        snapshot = self._holder.current
        return Decoder(self._live.rules.bounds, snapshot.known, self.writers), snapshot

    def gauges(self) -> dict[str, Callable[[], int]]:
        """Numbers to watch: how old the bindings are, and how long schemas were waited for."""
        stalls = self.writers.stalls
        watched: dict[str, Callable[[], int]] = {
            "registry_stalled_s": lambda: round(stalls.seconds),
        }
        holder = self._holder
        if holder is not None:
            watched["bindings_age_s"] = lambda: round(holder.age_s)
            watched["bindings_version_ms"] = lambda: holder.version_ms
            watched["bindings_failed_reads"] = lambda: holder.failures
        return watched

    def read_again(self, places: pa.RecordBatch) -> pa.RecordBatch:
        """Records of device topics by place (columns topic, partition, offset), those that their
        topic no longer keeps left out."""
        names = ("topic", "partition", "offset")
        wanted = [
            MessagePosition(*row)
            for row in zip(*(places.column(n).to_pylist() for n in names), strict=True)
        ]
        try:
            found = list(read_positions(self._live.kafka, wanted))
        except OffsetsGone:
            found = [batch for place in wanted for batch in self._read_if_there(place)]
        return concat(found) if found else pa.RecordBatch.from_pylist([], schema=RAW)

    def _read_if_there(self, place: MessagePosition) -> list[pa.RecordBatch]:
        try:
            return list(read_positions(self._live.kafka, [place]))
        except OffsetsGone as gone:
            _LOG.warning("an upload keeps its first verdict, its record is gone: %s", gone)
            return []

    def schema_id(self, topic: str) -> int:
        """The id of the schema that a topic's values are written with."""
        return latest_id(self._live.registry, topic)


_contexts: dict[str, WorkerContext] = {}
_lock = threading.Lock()


def worker_context(live: LiveJobSpec) -> WorkerContext:
    """The context of this process; all stages of a job in it share it."""
    name = repr(live)
    with _lock:
        if name not in _contexts:
            _contexts[name] = WorkerContext(live)
        return _contexts[name]
