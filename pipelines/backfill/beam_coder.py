"""How Arrow batches travel between Beam steps."""

from __future__ import annotations

import pyarrow as pa
from apache_beam.coders import Coder, registry


class BatchCoder(Coder):
    """A RecordBatch as one Arrow IPC stream; a slice is written without the rest of its parent
    (the default coder pickles all of it)."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_batch(value)
        return bytes(sink.getvalue().to_pybytes())

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_next_batch()

    def is_deterministic(self) -> bool:
        return False

    def to_type_hint(self) -> object:
        return pa.RecordBatch


registry.register_coder(pa.RecordBatch, BatchCoder)
