"""The archive: what device topics carried, by arrival hour. Reads the old sink's gzip NDJSON,
CSA text, Avro containers and Odograph's own Parquet of exact bytes."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import fastavro
import pyarrow as pa

from connectors.archive.names import ArchiveObject, BrokenObject, parse_name
from connectors.archive.read_parquet import read_parquet
from connectors.storage.folder import Folder, failing
from schemas import MESSAGE_TYPES
from transforms.decode.avro_container import ContainerBlock
from transforms.model import raw_messages

BLOCK_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20
MAX_EXPANDED_BYTES = 16 << 30


@dataclass(frozen=True)
class Listing:
    """Objects to read, and names that are none: (name, reason)."""

    objects: list[ArchiveObject]
    broken: list[tuple[str, str]]


def list_objects(
    topics: Folder,
    zone: str,
    types: frozenset[str],
    start: datetime | None = None,
    end: datetime | None = None,
) -> Listing:
    """All objects below `topics` of wanted types whose arrival hour overlaps [start, end)."""
    objects, broken = [], []
    first = start.timestamp() * 1000 - 3_599_999 if start else float("-inf")
    last = end.timestamp() * 1000 if end else float("inf")
    for name, _ in topics.names():
        if name.rpartition("/")[2].startswith("."):
            continue
        try:
            one = parse_name(name, zone)
        except BrokenObject as error:
            broken.append((name, str(error)))
            continue
        kind = one.topic.rpartition("-")[2]
        if (kind in types or kind not in MESSAGE_TYPES) and first <= one.hour_ms < last:
            objects.append(one)
    return Listing(objects, broken)


def read_object(
    topics: Folder, one: ArchiveObject, max_line_bytes: int
) -> Iterator[pa.RecordBatch | ContainerBlock]:
    """Raw batches of an object, in order, of bounded size.

    Raises BrokenObject when it cannot be read on; what came before is good. Raises
    DependencyFailed when the store cannot deliver it.
    """
    if one.extension == "parquet":
        yield from read_parquet(topics, one)
    elif one.extension == "avro":
        yield from _read_container(topics, one)
    else:
        yield from _read_text(topics, one, max_line_bytes)


def _chunks(topics: Folder, name: str) -> Iterator[bytes]:
    with failing(f"open {topics.uri}/{name}"):
        stream = topics.system.open_input_stream(topics.at(name), compression=None)
    with stream:
        while True:
            with failing(f"read {topics.uri}/{name}"):
                chunk = stream.read(CHUNK_BYTES)
            if not chunk:
                return
            yield chunk


def _expanded(chunks: Iterator[bytes], gzipped: bool) -> Iterator[bytes]:
    """Plain bytes in pieces of at most BLOCK_BYTES; several gzip members are one text."""
    if not gzipped:
        yield from chunks
        return
    inflate = zlib.decompressobj(wbits=31)
    total, seen, fresh = 0, False, True
    for chunk in chunks:
        seen = True
        while chunk:
            if fresh and chunk[:1] != b"\x1f" and total:
                raise BrokenObject("bytes after the end of the gzip data")
            fresh = False
            try:
                piece = inflate.decompress(chunk, BLOCK_BYTES)
            except zlib.error as error:
                kind = "not gzip" if not total else f"gzip is damaged after {total} bytes"
                raise BrokenObject(f"{kind}: {error}") from None
            total += len(piece)
            if total > MAX_EXPANDED_BYTES:
                raise BrokenObject(f"expands to more than {MAX_EXPANDED_BYTES} bytes")
            if piece:
                yield piece
            chunk = inflate.unconsumed_tail
            if inflate.eof:
                chunk = inflate.unused_data
                inflate, fresh = zlib.decompressobj(wbits=31), True
    if not seen:
        raise BrokenObject("the object is empty")
    if not fresh:
        raise BrokenObject(f"gzip is cut off after {total} bytes of text")


def _read_text(topics: Folder, one: ArchiveObject, max_line: int) -> Iterator[pa.RecordBatch]:
    lines = _LineCutter(max_line)
    line = 0
    broken: BrokenObject | None = None
    pieces = _expanded(_chunks(topics, one.name), one.extension.endswith(".gz"))
    try:
        for piece in pieces:
            for values, sizes in lines.feed(piece):
                yield _sized(raw_messages.from_lines(values, one.source, line), sizes)
                line += len(values)
    except BrokenObject as error:
        broken = error
    if broken is None:
        for values, sizes in lines.finish():
            yield _sized(raw_messages.from_lines(values, one.source, line), sizes)
        return
    for values, sizes in lines.finish(complete=False):
        yield _sized(raw_messages.from_lines(values, one.source, line), sizes)
    raise broken


def _sized(batch: pa.RecordBatch, sizes: pa.Array | None) -> pa.RecordBatch:
    if sizes is None:
        return batch
    at = batch.schema.get_field_index("size")
    columns = [sizes if i == at else c for i, c in enumerate(batch.columns)]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


class _LineCutter:
    """Cuts a stream of bytes into batches of whole lines; a line longer than `limit` bytes is
    cut off there and its true size kept."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.waiting: list[bytes] = []
        self.length = 0
        self.skipped = 0

    def feed(self, piece: bytes) -> Iterator[tuple[pa.Array, pa.Array | None]]:
        """Batches of the lines that are complete by now."""
        if self.skipped:
            end = piece.find(b"\n")
            self.skipped += len(piece) if end < 0 else end
            if end < 0:
                return
            yield self._cut_off()
            piece = piece[end + 1 :]
        self.waiting.append(piece)
        self.length += len(piece)
        if self.length < BLOCK_BYTES and self.length <= self.limit:
            return
        text = b"".join(self.waiting)
        end = text.rfind(b"\n") + 1
        if end and (self.length >= BLOCK_BYTES or len(text) - end > self.limit):
            yield raw_messages.split_lines(text[:end]), None
            text = text[end:]
        if len(text) > self.limit and b"\n" not in text:
            self.skipped = len(text)
            text = text[: self.limit]
        self.waiting, self.length = [text], len(text)

    def _cut_off(self) -> tuple[pa.Array, pa.Array]:
        value, size = b"".join(self.waiting), self.skipped
        self.waiting, self.length, self.skipped = [], 0, 0
        return pa.array([value], pa.binary()), pa.array([size], pa.int64())

    def finish(self, complete: bool = True) -> Iterator[tuple[pa.Array, pa.Array | None]]:
        """What is left at the end; without `complete`, whole lines only."""
        if self.skipped:
            if complete:
                yield self._cut_off()
            return
        text = b"".join(self.waiting)
        if not complete:
            text = text[: text.rfind(b"\n") + 1]
        if text:
            yield raw_messages.split_lines(text), None


def _read_container(topics: Folder, one: ArchiveObject) -> Iterator[ContainerBlock]:
    data = b"".join(_chunks(topics, one.name))
    if not data:
        raise BrokenObject("the object is empty")
    try:
        blocks = fastavro.block_reader(io.BytesIO(data))
    except Exception as error:
        raise BrokenObject(f"not an Avro container: {error}") from None
    line = 0
    while True:
        try:
            block = next(blocks, None)
        except Exception as error:
            raise BrokenObject(f"damaged after {line} records: {error}") from None
        if block is None:
            return
        data = block.bytes_.getvalue()  # type: ignore[attr-defined]  # its stub lacks it
        yield ContainerBlock(one.source, line, block.num_records, data, blocks.writer_schema)
        line += block.num_records
