"""Prepared uploads of an object on their way from reading to settling, in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from connectors.archive.names import ArchiveObject
from pipelines.backfill.spec import BackfillSpec
from transforms.facts.telemetry import Prepared
from transforms.model.uploads import Uploads


@dataclass
class Spool:
    """Prepared uploads of one object between scan and settle, as Arrow IPC."""

    spec: BackfillSpec
    one: ArchiveObject
    parts: int = 0

    @property
    def _stem(self) -> str:
        return hashlib.sha256(self.one.name.encode()).hexdigest()[:24]

    def put(self, prepared: Prepared) -> None:
        """Append a batch."""
        uploads = prepared.uploads
        head = uploads.head.append_column("dropped", pa.array(prepared.dropped))
        rows = uploads.rows.append_column("sample_idx", pa.array(prepared.sample_idx))
        rows = rows.append_column("step_m", pa.array(prepared.step_m))
        name = f"{self._stem}/{self.parts:06d}-{uploads.message_type}"
        self.parts += 1
        with self.spec.scratch.whole(name) as stream:
            for batch in (head, rows):
                with pa.ipc.new_stream(stream, batch.schema) as writer:
                    writer.write_batch(batch)

    def take(self) -> Iterator[Prepared]:
        """The batches in order."""
        folder = self.spec.scratch.child(self._stem)
        for name, _ in folder.names():
            stream = pa.BufferReader(folder.read(name))
            head, rows = _next_batch(stream), _next_batch(stream)
            sample_idx, step_m = np.asarray(rows.column(-2)), np.asarray(rows.column(-1))
            message_type = name.partition("-")[2]
            uploads = Uploads(message_type, _without(head, 1), _without(rows, 2))
            yield Prepared(uploads, sample_idx, step_m, np.asarray(head.column("dropped")))

    def drop(self) -> None:
        """Delete what waited."""
        self.spec.scratch.child(self._stem).clear()


def _next_batch(stream: pa.NativeFile) -> pa.RecordBatch:
    """The one batch of the next Arrow stream in a file of several."""
    with pa.ipc.open_stream(stream) as reader:
        batch = reader.read_next_batch()
        reader.read_all()
    return batch


def _without(batch: pa.RecordBatch, last: int) -> pa.RecordBatch:
    return batch.select(batch.schema.names[:-last])
