"""(b) The per-message way: orjson or fastavro, dicts and a Python loop, from_pylist to Parquet."""

import csv
import datetime as dt
import functools
import gc
import gzip
import hashlib
import io
import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import fastavro
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from bench.backfill_contenders import python_rules as rules
from bench.backfill_contenders.output import MINUTES, ROWS, plain
from bench.backfill_contenders.python_minutes import MINUTE, Minute

CHUNK = 5_000
HOUR = 3_600_000
FIXES = {0: "NONE", 1: "NONE", 2: "TWO_D", 3: "THREE_D", 4: "DEAD_RECKONING"}


class Upload:
    """One upload on its way: its place, its envelope and its samples as dicts."""

    __slots__ = (
        "boot",
        "device_no",
        "firmware",
        "flags",
        "message_id",
        "place",
        "received",
        "samples",
        "seq",
        "shift",
        "source",
    )

    def __init__(self, place, message_id, device_no, firmware, boot, seq, received, samples):
        self.place, self.message_id, self.device_no = place, message_id, device_no
        self.firmware, self.boot, self.seq, self.received = firmware, boot, seq, received
        self.samples = samples
        self.flags: list[str] = []
        self.source, self.shift = "DEVICE", 0


def run(archive: Path, out: Path) -> None:
    """Archive to rows and minutes under `out`. Nothing here is cyclic: the collector rests."""
    gc.disable()
    kind, objects = find_objects(archive)
    uploads = first_of_each(read(archive, kind, objects))
    bindings = Bindings(archive / "device_binding.csv")
    for upload in uploads:
        upload.samples = rules.in_order(upload.samples)
    rules.set_clocks(uploads)
    for upload in uploads:
        upload.samples = [rules.clean(sample, kind) for sample in upload.samples]
    driven = {}
    if kind == "log":
        rules.judge_terminals(uploads, bindings.vehicle)
    else:
        driven = {u.message_id: rules.drive(u.samples) for u in uploads}
    minutes: dict = {}
    writer = RowWriter(out / f"telemetry_{kind}", kind)
    for upload in uploads:
        writer.add(rows_of(upload, kind, bindings, minutes, driven.get(upload.message_id)))
    writer.close()
    (out / "vehicle_minutes").mkdir(parents=True)
    table = pa.Table.from_pylist([m.row() for m in minutes.values()], schema=MINUTES)
    pq.write_table(table, out / "vehicle_minutes" / "minutes.parquet", compression="zstd")


def find_objects(archive: Path) -> tuple[str, list[Path]]:
    """The message type and the objects of its topic."""
    [topic] = (archive / "topics").iterdir()
    return topic.name.removeprefix("message-"), sorted(p for p in topic.rglob("*") if p.is_file())


def read(archive: Path, kind: str, objects: list[Path]) -> Iterator[Upload]:
    """Every upload of the archive, decoded."""
    known: dict[int, dict] = {}
    for path in objects:
        name = path.relative_to(archive / "topics").as_posix()
        partition = int(path.name.split("+")[1])
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as lines:
                for line, text in enumerate(lines):
                    yield from_json(orjson.loads(text), (name, line, partition, None), kind)
            continue
        table = pq.read_table(path, columns=["offset", "value"])
        records = zip(table["offset"].to_pylist(), table["value"].to_pylist(), strict=True)
        for line, (offset, value) in enumerate(records):
            number = int.from_bytes(value[1:5], "big")
            if number not in known:
                text = (archive / "schemas" / f"{number}.avsc").read_bytes()
                known[number] = fastavro.parse_schema(plain(json.loads(text)))
            datum = fastavro.schemaless_reader(io.BytesIO(value[5:]), known[number])
            yield from_avro(datum, (name, line, partition, offset), kind)


def from_json(message: dict, place: tuple, kind: str) -> Upload:
    device_no, boot, seq = message["device_no"].strip().upper(), message["boot"], message["seq"]
    message_id = hashlib.sha256(f"{device_no}|{kind}|{boot}|{seq}".encode()).hexdigest()[:32]
    if kind == "gps":
        samples = message["data"]
    else:
        samples = [message["d"]]
        samples[0]["ts"] = message.get("ts")
    names = rules.JSON_NAMES[kind]
    samples = [{names[key]: value for key, value in sample.items()} for sample in samples]
    if kind == "gps":
        for sample in samples:
            sample["fix_type"] = FIXES.get(sample["fix_type"], "UNKNOWN")
    return Upload(
        place,
        message_id,
        device_no,
        message.get("fw"),
        boot,
        seq,
        received_ms(message["timestamp"]),
        samples,
    )


@functools.cache
def received_ms(text: str) -> int:
    """Epoch ms of the receiver's stamp; stamps repeat, so they are remembered."""
    time = dt.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=dt.UTC)
    return int(time.timestamp()) * 1000 - (9 * HOUR if text.endswith("KST") else 0)


def from_avro(datum: dict, place: tuple, kind: str) -> Upload:
    if kind == "gps":
        samples = datum["samples"]
    else:
        samples = [{key: datum[key] for key in rules.COLUMNS["log"]}]
    return Upload(
        place,
        datum["message_id"],
        datum["device_no"],
        datum["firmware_version"],
        datum["boot_count"],
        datum["seq"],
        datum["received_time"],
        samples,
    )


def first_of_each(uploads: Iterator[Upload]) -> list[Upload]:
    """One upload a message_id, the first received; all copies of differing content flagged."""
    first: dict[str, Upload] = {}
    for upload in uploads:
        other = first.get(upload.message_id)
        if other is None:
            first[upload.message_id] = upload
            continue
        winner = min(other, upload, key=lambda u: (u.received, u.place))
        if other.samples != upload.samples or other.flags:
            winner.flags = ["DUP_DIFF"]
        first[upload.message_id] = winner
    return list(first.values())


class Bindings:
    """Which vehicle a terminal sat in: dict and bisect."""

    def __init__(self, path: Path):
        best: dict[tuple[str, int], tuple] = {}
        with path.open(encoding="utf-8") as source:
            for row in csv.DictReader(source):
                since, version = iso_ms(row["valid_from"]), int(row["binding_version"])
                until = iso_ms(row["valid_to"]) if row["valid_to"] else None
                key = (row["device_no"], since)
                if key not in best or best[key][2] < version:
                    best[key] = (until, row["vehicle_id"], version)
        self.spells: dict[str, tuple[list, list]] = defaultdict(lambda: ([], []))
        for (device_no, since), spell in sorted(best.items()):
            starts, spells = self.spells[device_no]
            starts.append(since)
            spells.append(spell)

    def find(self, device_no: str, time: int) -> tuple[str | None, str, int | None]:
        """vehicle_id, binding_status and binding_version at an instant."""
        if device_no not in self.spells:
            return None, "UNBOUND", None
        starts, spells = self.spells[device_no]
        if len(spells) == 1:
            until, vehicle, version = spells[0]
            if starts[0] <= time and (until is None or time < until):
                return vehicle, "BOUND", version
            return None, "UNBOUND", None
        n = bisect_right(starts, time)
        valid = [s for s in spells[:n] if s[0] is None or time < s[0]]
        if not valid:
            return None, "UNBOUND", None
        if len({vehicle for _, vehicle, _ in valid}) > 1:
            return None, "AMBIGUOUS", None
        return valid[-1][1], "BOUND", valid[-1][2]

    def vehicle(self, device_no: str, time: int) -> str | None:
        return self.find(device_no, time)[0]


def iso_ms(text: str) -> int:
    return round(dt.datetime.fromisoformat(text).timestamp() * 1000)


def rows_of(upload: Upload, kind: str, bindings: Bindings, minutes: dict, steps) -> list[dict]:
    """The telemetry rows of one upload; adds what it did to `minutes`."""
    name, line, partition, offset = upload.place
    head = {
        "message_id": upload.message_id,
        "device_no": upload.device_no,
        "received_time": upload.received,
        "time_source": upload.source,
        "topic": f"message-{kind}",
        "partition": partition,
        "offset": offset,
        "object": name,
        "line": line,
        "device_gen": "STS",
        "firmware_version": upload.firmware,
        "boot_count": upload.boot,
        "seq": upload.seq,
    }
    fallback = upload.source == "RECEIVED_FALLBACK"
    counted = not fallback or len(upload.samples) == 1
    rows, vehicles = [], []
    for number, (sample, flags) in enumerate(upload.samples):
        time = upload.received if fallback else sample["device_time"] - upload.shift
        vehicle, status, version = bindings.find(upload.device_no, time)
        flags = upload.flags + flags
        rows.append(
            {
                **head,
                **sample,
                "sample_idx": number,
                "event_time": time,
                "vehicle_id": vehicle,
                "binding_status": status,
                "binding_version": version,
                "quality_flags": flags,
            }
        )
        vehicles.append(vehicle)
        if vehicle is None or not counted:
            continue
        key = (vehicle, time // MINUTE)
        minute = minutes.get(key)
        if minute is None:
            minute = minutes[key] = Minute(*key)
        minute.add(sample, flags, time, upload, kind)
        if steps and (step := steps[number]) and vehicles[step[0]] == vehicle:
            minute.distance += step[1]
    return rows


class RowWriter:
    """Rows to one Parquet file an event hour, in chunks."""

    def __init__(self, folder: Path, kind: str):
        self.folder, self.schema = folder, ROWS[kind]
        self.rows: dict[int, list[dict]] = defaultdict(list)
        self.files: dict[int, pq.ParquetWriter] = {}

    def add(self, rows: list[dict]) -> None:
        for row in rows:
            self.rows[(row["event_time"] + 9 * HOUR) // HOUR].append(row)
        for hour in {(row["event_time"] + 9 * HOUR) // HOUR for row in rows}:
            if len(self.rows[hour]) >= CHUNK:
                self.flush(hour)

    def flush(self, hour: int) -> None:
        if hour not in self.files:
            day = dt.datetime.fromtimestamp(hour * 3600, dt.UTC)
            folder = self.folder / f"date={day:%Y-%m-%d}" / f"hour={day:%H}"
            folder.mkdir(parents=True)
            self.files[hour] = pq.ParquetWriter(
                folder / "rows.parquet", self.schema, compression="zstd"
            )
        self.files[hour].write_table(pa.Table.from_pylist(self.rows.pop(hour), self.schema))

    def close(self) -> None:
        for hour in list(self.rows):
            self.flush(hour)
        for file in self.files.values():
            file.close()
