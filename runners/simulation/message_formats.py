"""Simulated uploads as Avro in Confluent framing, the form device topics carry in production."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runners.simulation.kafka import Record
from schemas.arrow import UTC_MS
from transforms.decode.decoder import Decoder, decode
from transforms.encode.topic_messages import encode_uploads
from transforms.model import raw_messages
from transforms.model.uploads import Uploads

CHUNK = 2000


class AvroWriter:
    """Turns STS JSON into Avro by our own schemas, given their ids by message type.

    An upload that is broken or odd on purpose (wrong types, unknown fields, CSA) is sent as it is:
    Avro could not say what is wrong with it. So facts do not depend on the format.
    """

    def __init__(self, schema_ids: Mapping[str, int]) -> None:
        self._ids = schema_ids
        self._decoder = Decoder()

    def records(self, records: Iterable[Record]) -> Iterator[Record]:
        """The same records, in order, with Avro in place of sound JSON."""
        source = iter(records)
        while chunk := list(islice(source, CHUNK)):
            topics: dict[str, list[int]] = defaultdict(list)
            for at, record in enumerate(chunk):
                topics[record.topic].append(at)
            for topic, places in topics.items():
                for at, value in self._encoded(topic, [chunk[at] for at in places]):
                    chunk[places[at]] = chunk[places[at]]._replace(value=value)
            yield from chunk

    def _encoded(self, topic: str, records: list[Record]) -> Iterator[tuple[int, bytes]]:
        """Avro of the sound ones, with their position."""
        values = pa.array([record.value for record in records], pa.binary())
        stamps = pa.array([record.timestamp_ms for record in records], pa.int64())
        batch = raw_messages.from_lines(
            values, raw_messages.Source(topic, 0, None, None), is_line=False
        )
        at = batch.schema.get_field_index("timestamp")
        columns = batch.columns
        columns[at] = stamps.cast(pa.timestamp("ms")).cast(UTC_MS)
        batch = pa.RecordBatch.from_arrays(columns, schema=batch.schema)
        for uploads in decode(batch, self._decoder).good:
            schema_id = self._ids.get(uploads.message_type)
            if schema_id is None:
                continue
            sound = uploads.keep(_sound(uploads))
            encoded = encode_uploads(sound, pa.nulls(len(sound), pa.binary()), schema_id)
            lines = sound.head.column("line").to_pylist()
            yield from zip(lines, encoded.to_pylist(), strict=True)


def _sound(uploads: Uploads) -> np.ndarray:
    """bool of shape (uploads,): nothing was mended, and nothing would be left out."""
    head, rows = uploads.head, uploads.rows
    odd = np.asarray(rows.column("flags")) != 0
    odd |= np.asarray(rows.column("extras").is_valid())
    sound: np.ndarray = np.asarray(head.column("flags")) == 0
    sound &= np.asarray(head.column("extras").is_null())
    sound &= np.asarray(pc.equal(head.column("device_gen"), "STS"))
    sound[uploads.upload[odd]] = False
    return sound
