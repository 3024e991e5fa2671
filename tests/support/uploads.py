"""Drives the core by hand: messages in, facts out. No engine, no files.

Times are epoch ms; `received` of a message is sent with a resolution of one second, as the real
rule writes it.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import xor
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

from transforms.bindings.bindings import SCHEMA as BINDING
from transforms.bindings.bindings import Bindings
from transforms.decode.avro_container import ContainerBlock, decode_block
from transforms.decode.decoder import Decoder, decode
from transforms.facts.telemetry import prepare, settle
from transforms.facts.vehicle_minutes import merge
from transforms.model import raw_messages
from transforms.model.known_terminals import KnownTerminals
from transforms.model.thresholds import Rules
from transforms.model.uploads import Uploads, concat_uploads
from transforms.terminal_rules.upload_summary import summarize
from transforms.terminal_rules.verdicts import SUMMARIES, judge

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
NOON = 1_705_287_600_000
"""2024-01-15T03:00:00Z, noon in Seoul."""
METRES_PER_DEGREE = 6_371_008.8 * np.pi / 180
HOME = (37.5, 127.0)
ALWAYS = (("0001", "CAR-1", 0), ("0002", "CAR-2", 0), ("0003", "CAR-3", 0))


def at(text: str) -> int:
    """Epoch ms of an ISO time; UTC where it names no offset."""
    moment = datetime.fromisoformat(text)
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


def stamp(ms: int) -> str:
    """The `timestamp` of an upload received at `ms`."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%SGMT")


def upload(kind: str, seq: int, received: int, /, **more: Any) -> dict[str, Any]:
    """The envelope of an STS upload; `more` replaces and adds keys."""
    return {
        "device_no": "0001", "type": kind, "fw": "STS-2.4.1", "boot": 1, "seq": seq,
        "timestamp": stamp(received), **more,
    }  # fmt: skip


def log(
    seq: int = 1, ts: int | None = NOON, received: int | None = None, **d: Any
) -> dict[str, Any]:
    """A log upload; keywords that are no envelope keys are the report's."""
    return _report("log", seq, ts, received, d)


def boot(
    seq: int = 1, ts: int | None = NOON, received: int | None = None, **d: Any
) -> dict[str, Any]:
    """A boot upload."""
    return _report("boot", seq, ts, received, d)


ENVELOPE = ("device_no", "fw", "boot", "up")


def _report(
    kind: str, seq: int, ts: int | None, received: int | None, d: dict[str, Any]
) -> dict[str, Any]:
    own = {key: d.pop(key) for key in ENVELOPE if key in d}
    if ts is not None:
        own["ts"] = ts
    return upload(kind, seq, received if received is not None else ts or NOON, **own, d=d)


def batch(
    kind: str,
    samples: Sequence[dict[str, Any]],
    seq: int = 1,
    received: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """An upload of samples, received when its latest sample was taken unless told otherwise."""
    if received is None:
        received = max((s["ts"] for s in samples if "ts" in s), default=NOON)
    return upload(kind, seq, received, **more, data=list(samples))


def gps(
    samples: Sequence[dict[str, Any]], seq: int = 1, received: int | None = None, **more: Any
) -> dict[str, Any]:
    """A gps upload."""
    return batch("gps", samples, seq, received, **more)


def fix(second: float, metres: float = 0.0, **more: Any) -> dict[str, Any]:
    """A position `metres` north of HOME, `second` seconds after NOON, at 60 km/h."""
    return {
        "ts": NOON + round(second * SECOND), "lat": HOME[0] + metres / METRES_PER_DEGREE,
        "lon": HOME[1], "sp": 60.0, **more,
    }  # fmt: skip


def csa(*columns: object, **replaced: object) -> bytes:
    """A CSA line with its checksum. Without columns a log line at NOON, `replaced` by name."""
    if not columns:
        given = {
            "fw": "1.3", "phone": "01012345678", "kind": "LOG", "time": "240115120000", "fix": "A",
            "lat": "3730.0000", "ns": "N", "lon": "12700.0000", "ew": "E", "speed": "043",
            "heading": "091", "odo": "0482134", "batt": "141", "flags": "05", "fuel": "061",
        }  # fmt: skip
        columns = ("CSA", *(given | replaced).values())
    body = ",".join(str(column) for column in columns).encode()
    return b"$" + body + b"*%02X" % reduce(xor, body, 0)


def frame(schema_id: int, writer: dict[str, Any], record: dict[str, Any]) -> bytes:
    """A record in Confluent framing."""
    return b"\0" + schema_id.to_bytes(4, "big") + datum(writer, record)


def datum(writer: dict[str, Any], record: dict[str, Any]) -> bytes:
    """A bare Avro record."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, parsed(writer), record)
    return stream.getvalue()


def parsed(schema: dict[str, Any]) -> Any:
    """A schema as fastavro wants it, the original left alone."""
    return fastavro.parse_schema(json.loads(json.dumps(schema)))


def block(writer: dict[str, Any], datums: Sequence[bytes], name: str = "one") -> ContainerBlock:
    """A container block of bare records."""
    source = raw_messages.Source("message-log", 0, name, NOON)
    return ContainerBlock(source, 0, len(datums), b"".join(datums), writer)


@dataclass(frozen=True)
class Writers:
    """Writer schemas by id."""

    schemas: Mapping[int, dict[str, Any]]

    def lookup(self, schema_id: int) -> dict[str, Any] | None:
        """The schema of this id."""
        return self.schemas.get(schema_id)


def bindings_of(rows: Iterable[Sequence[Any]]) -> Bindings:
    """A snapshot of (device_no, vehicle_id, from ms[, to ms[, version]])."""
    names = BINDING.names
    table = [dict(zip(names, (*row, *(None, 0)[len(row) - 3 :]), strict=True)) for row in rows]
    return Bindings.from_table(pa.Table.from_pylist(table, schema=BINDING))


@dataclass
class Facts:
    """What came of a run. Rows are dicts by column, times epoch ms; `good` and `duplicates` count
    uploads, `dropped` samples."""

    telemetry: list[dict[str, Any]] = field(default_factory=list)
    minutes: list[dict[str, Any]] = field(default_factory=list)
    dead: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    good: int = 0
    duplicates: int = 0
    dropped: int = 0

    @property
    def row(self) -> dict[str, Any]:
        """The only telemetry row."""
        [row] = self.telemetry
        return row

    @property
    def minute(self) -> dict[str, Any]:
        """The only vehicle minute."""
        [minute] = self.minutes
        return minute

    @property
    def errors(self) -> list[str]:
        """Error types of the dead letters, by line."""
        return [letter["error_type"] for letter in self.dead]

    def column(self, name: str) -> list[Any]:
        """A telemetry column."""
        return [row[name] for row in self.telemetry]

    @property
    def flags(self) -> list[list[str]]:
        """Flags of the telemetry rows."""
        return self.column("quality_flags")


Message = bytes | dict[str, Any]


def encoded(message: Message) -> bytes:
    """A message as bytes; dicts become compact JSON."""
    if isinstance(message, bytes):
        return message
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def raw_batch(
    messages: Sequence[Message | None],
    name: str = "one",
    topic: str | None = None,
    hour: int | None = NOON,
    kafka: int | None = None,
    offset: int | None = None,
) -> pa.RecordBatch:
    """A raw batch of one archive object that arrived in `hour`; `kafka` is every record's time,
    `offset` the first record's offset (lines of text have none)."""
    kinds = {m.get("type") for m in messages if isinstance(m, dict)}
    named = topic or (f"message-{kinds.pop()}" if len(kinds) == 1 else "messages")
    values = [None if m is None else encoded(m) for m in messages]
    framed = any(value is not None and value.startswith(b"\0") for value in values)
    source = raw_messages.Source(named, 0, name, hour)
    is_line = offset is None and not framed
    made = raw_messages.from_lines(pa.array(values, pa.binary()), source, is_line=is_line)
    given = {}
    if kafka is not None:
        stamps = raw_messages.constant(
            kafka, len(values), raw_messages.SCHEMA.field("timestamp").type
        )
        given["timestamp"] = stamps
    if offset is not None:
        given["offset"] = pa.array(range(offset, offset + len(values)), pa.int64())
    arrays = [given.get(field.name, made.column(field.name)) for field in raw_messages.SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=raw_messages.SCHEMA)


Objects = Mapping[str, "Sequence[Message | None] | pa.RecordBatch | ContainerBlock"]


def run(
    objects: Objects | Sequence[Message | None] | pa.RecordBatch | ContainerBlock,
    bindings: Iterable[Sequence[Any]] = ALWAYS,
    rules: Rules | None = None,
    writers: Mapping[int, dict[str, Any]] | None = None,
    phones: dict[str, str] | None = None,
) -> Facts:
    """All facts of some archive objects (or of one, named `one`)."""
    rules = rules or Rules()
    snapshot = bindings_of(bindings)
    decoder = Decoder(rules.bounds, KnownTerminals(snapshot.known, phones), Writers(writers or {}))
    named = objects if isinstance(objects, Mapping) else {"one": objects}
    facts, waiting, register = Facts(), [], []
    for name, content in named.items():
        uploads, dead = _decoded(name, content, decoder)
        facts.dead += rows_of(dead)
        for part in uploads:
            prepared = prepare(part, rules)
            facts.dropped += int(prepared.dropped.sum())
            enrolled = pa.Table.from_batches([summarize(prepared.uploads)])
            names = pa.array([name] * enrolled.num_rows, pa.string())
            register.append(enrolled.add_column(0, SUMMARIES.field("object"), names))
            waiting.append((name, prepared))
    registered = pa.concat_tables([SUMMARIES.empty_table(), *register])
    verdicts = judge(registered, snapshot.vehicle_at, rules)
    facts.verdicts = rows_of(verdicts)
    facts.duplicates = sum(not verdict["counts"] for verdict in facts.verdicts)
    partials = []
    for name, prepared in waiting:
        own = verdicts.filter(pa.array([v["object"] == name for v in facts.verdicts], pa.bool_()))
        settled = settle(prepared, own, snapshot, rules)
        facts.good += settled.good
        facts.telemetry += rows_of(settled.telemetry)
        partials.append(settled.partials)
    facts.dead.sort(key=lambda letter: (letter["source_object"], letter["source_line"]))
    facts.telemetry.sort(key=lambda row: (row["object"], row["line"], row["sample_idx"]))
    facts.minutes = rows_of(merge(pa.Table.from_batches(partials)) if partials else None)
    return facts


def _decoded(name: str, content: Any, decoder: Decoder) -> tuple[list[Uploads], pa.RecordBatch]:
    if isinstance(content, ContainerBlock):
        outcome = decode_block(content, decoder)
    else:
        given = content if isinstance(content, pa.RecordBatch) else raw_batch(content, name)
        outcome = decode(given, decoder)
    return by_type(outcome.good), outcome.dead


def by_type(parts: Iterable[Uploads]) -> list[Uploads]:
    """Decoded parts joined to one `Uploads` a type."""
    groups: dict[str, list[Uploads]] = defaultdict(list)
    for part in parts:
        groups[part.message_type].append(part)
    return [concat_uploads(groups[kind]) for kind in sorted(groups)]


def rows_of(table: pa.Table | pa.RecordBatch | None) -> list[dict[str, Any]]:
    """Rows as dicts, times as epoch ms, extras as dicts."""
    if table is None:
        return []
    columns = {}
    for position, column in enumerate(table.schema):
        values = table.column(position)
        if pa.types.is_timestamp(column.type):
            values = values.cast(pa.int64())
        columns[column.name] = values.to_pylist()
        if column.name == "extras":
            columns["extras"] = [None if v is None else dict(v) for v in columns["extras"]]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
