"""The four archives of the side-by-side run, written once and kept.

The JSON ones are what the old sink wrote (gzip lines), the Avro ones Odograph's own archive:
Parquet of whole Kafka records, values in Confluent framing, writer schemas in schemas/<id>.avsc.
The JSON and the Avro archive of a type hold the same uploads.
"""

import csv
import datetime as dt
import gzip
import hashlib
import io
import json
import shutil
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fastavro
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from bench import fleet

AVSC = Path(__file__).parents[1] / "schemas" / "avro"
KST = dt.timezone(dt.timedelta(hours=9))
PARTITIONS = 4
FORMAT = 2
DIGITS = {"lat": 6, "lon": 6, "sp": 1, "hd": 0, "alt": 1, "dop": 1, "fuel": 1, "bat": 2, "rpm": 0}
AVRO_NAMES = {
    "ts": "device_time",
    "lat": "lat_deg",
    "lon": "lon_deg",
    "sp": "speed_kmh",
    "hd": "heading_deg",
    "alt": "altitude_m",
    "dop": "hdop",
    "nos": "satellites",
    "odo": "odometer_m",
    "ign": "ignition_on",
    "fuel": "fuel_level_pct",
    "bat": "aux_battery_v",
    "rpm": "engine_rpm",
    "ct": "coolant_temp_c",
    "rssi": "cell_rssi_dbm",
    "door": "door_state_bits",
}
RECORDS = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("ms", "UTC")),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.map_(pa.string(), pa.binary())),
    ]
)


@dataclass(frozen=True)
class Input:
    """One archive of the run: a message type, an encoding and samples an upload."""

    name: str
    type: str
    encoding: str
    upload_samples: int
    file_uploads: int


INPUTS = (
    Input("gps-json", "gps", "json", 60, 2_000),
    Input("log-json", "log", "json", 1, 50_000),
    Input("gps-avro", "gps", "avro", 60, 2_000),
    Input("log-avro", "log", "avro", 1, 50_000),
)


def make(root: Path, kind: Input, samples: int, seed: int = 1) -> Path:
    """Write the archive of about `samples` samples under `root`, unless it stands there already."""
    out = root / f"{kind.name}-{samples}-{seed}-v{FORMAT}"
    if (out / "truth.json").exists():
        return out
    count = max(samples // kind.upload_samples, fleet.TERMINALS)
    if kind.type == "gps":
        uploads = fleet.minutes_of_gps(count, seed)
    else:
        uploads = fleet.reports(count, seed)
    n_samples = uploads.samples["ts"].size
    encode = json_values if kind.encoding == "json" else avro_values
    write_archive(out, kind, uploads, encode(kind.type, uploads))
    (out / "schemas").mkdir(exist_ok=True)
    for number, name in enumerate(("gps", "log"), 1):
        shutil.copy(AVSC / f"message_{name}.avsc", out / "schemas" / f"{number}.avsc")
    span = int(np.percentile(uploads.samples["ts"], 90)) - fleet.START
    with (out / "device_binding.csv").open("w", newline="", encoding="utf-8") as target:
        table = csv.writer(target)
        table.writerow(["device_no", "vehicle_id", "valid_from", "valid_to", "binding_version"])
        table.writerows(fleet.bindings(span))
    truth = {"uploads": len(uploads.seq), "samples": n_samples}
    (out / "truth.json").write_text(json.dumps(truth))
    return out


def one_by_one(uploads: fleet.Uploads, slice_uploads: int = 5_000) -> Iterator[tuple]:
    """(terminal, seq, received) and the sample columns of every upload, rounded as sent.

    Turns arrays into Python lists a slice at a time, so that an archive may be larger than memory.
    """
    for start in range(0, len(uploads.seq), slice_uploads):
        part = slice(start, start + slice_uploads)
        heads = zip(
            *(head[part].tolist() for head in (uploads.terminal, uploads.seq, uploads.received)),
            strict=True,
        )
        columns = [
            (np.round(value[part], DIGITS[key]) if key in DIGITS else value[part]).tolist()
            for key, value in uploads.samples.items()
        ]
        yield from zip(heads, zip(*columns, strict=True), strict=True)


def json_values(kind: str, uploads: fleet.Uploads) -> Iterator[bytes]:
    """Uploads as the terminals' JSON lines."""
    keys = list(uploads.samples)
    for (terminal, seq, received), parts in one_by_one(uploads):
        stamp = dt.datetime.fromtimestamp(received / 1000, dt.UTC)
        head = {
            "device_no": fleet.device_no(terminal),
            "type": kind,
            "fw": "STS-2.4.1",
            "boot": 17,
            "seq": seq,
            "timestamp": stamp.strftime("%Y-%m-%dT%H:%M:%SGMT"),
        }
        if kind == "gps":
            head["data"] = [
                dict(zip(keys, row, strict=True), fix=3) for row in zip(*parts, strict=True)
            ]
        else:
            head["d"] = {key: part[0] for key, part in zip(keys, parts, strict=True)}
            head["ts"] = head["d"].pop("ts")
            head["d"]["spd"] = head["d"].pop("sp")
        yield orjson.dumps(head)


def avro_values(kind: str, uploads: fleet.Uploads) -> Iterator[bytes]:
    """Uploads as Confluent-framed Avro of message_<type>.avsc."""
    schema = fastavro.parse_schema(json.loads((AVSC / f"message_{kind}.avsc").read_bytes()))
    frame = b"\0" + struct.pack(">I", 1 if kind == "gps" else 2)
    keys = [AVRO_NAMES[key] for key in uploads.samples]
    for (terminal, seq, received), parts in one_by_one(uploads):
        number = fleet.device_no(terminal)
        head = {
            "message_id": message_id(number, kind, seq),
            "device_no": number,
            "device_gen": "STS",
            "firmware_version": "STS-2.4.1",
            "boot_count": 17,
            "seq": seq,
            "received_time": received,
            "extras": {},
        }
        if kind == "gps":
            head["samples"] = [
                dict(zip(keys, row, strict=True), fix_type="THREE_D")
                for row in zip(*parts, strict=True)
            ]
        else:
            head.update({key: part[0] for key, part in zip(keys, parts, strict=True)})
        target = io.BytesIO()
        target.write(frame)
        fastavro.schemaless_writer(target, schema, head)
        yield target.getvalue()


def message_id(number: str, kind: str, seq: int) -> str:
    return hashlib.sha256(f"{number}|{kind}|17|{seq}".encode()).hexdigest()[:32]


def write_archive(out: Path, kind: Input, uploads: fleet.Uploads, values: Iterator[bytes]) -> None:
    """Objects by partition and arrival hour (Asia/Seoul), named by their first offset.

    Uploads come in order of arrival: when an hour is over, its objects are written.
    """
    topic = f"message-{kind.type}"
    offsets = [0] * PARTITIONS
    open_objects: dict[tuple[int, str], list] = {}
    write = write_lines if kind.encoding == "json" else write_records

    def close(place: tuple[int, str]) -> None:
        partition, hour = place
        records = open_objects.pop(place)
        folder = out / "topics" / topic / hour
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / f"{topic}+{partition}+{records[0][0]:010d}", topic, partition, records)

    heads = zip(uploads.terminal.tolist(), uploads.arrived.tolist(), strict=True)
    for (terminal, arrived), value in zip(heads, values, strict=True):
        number = fleet.device_no(terminal).encode()
        partition = zlib.crc32(number) % PARTITIONS
        hour = dt.datetime.fromtimestamp(arrived / 1000, KST).strftime("%Y/%m/%d/%H")
        for place in [place for place in open_objects if place[1] != hour]:
            close(place)
        records = open_objects.setdefault((partition, hour), [])
        records.append((offsets[partition], arrived, number, value))
        offsets[partition] += 1
        if len(records) == kind.file_uploads:
            close((partition, hour))
    for place in list(open_objects):
        close(place)


def write_lines(name: Path, topic: str, partition: int, records: list) -> None:
    with gzip.open(f"{name}.json.gz", "wb", compresslevel=6) as target:
        target.write(b"".join(value + b"\n" for *_, value in records))


def write_records(name: Path, topic: str, partition: int, records: list) -> None:
    offset, arrived, key, value = zip(*records, strict=True)
    table = pa.table(
        [
            [topic] * len(records),
            [partition] * len(records),
            offset,
            arrived,
            key,
            value,
            [[]] * len(records),
        ],
        schema=RECORDS,
    )
    pq.write_table(table, f"{name}.parquet", compression="zstd")
