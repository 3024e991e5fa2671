"""Hostile Avro in Confluent framing: frames, truncations, wrong indices, lengths and counts."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fastavro

from schemas import load
from tests.bad_input.case import DEAD, DEVICE_TIME, EITHER, FACT, Corpus

LOG, GPS, SMALL, OLDER, BINDING = 1, 2, 3, 5, 7
SMALL_LOG = {
    "type": "record", "name": "MessageLog", "namespace": "fleet.telemetry.v1", "fields": [
        {"name": "message_id", "type": "string"},
        {"name": "device_no", "type": "string"},
        {"name": "received_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "device_time",
         "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": None},
        {"name": "speed_kmh", "type": ["null", "float"], "default": None},
        {"name": "dtc_codes", "type": {"type": "array", "items": "string"}, "default": []},
    ],
}  # fmt: skip
OLDER_LOG = {
    **SMALL_LOG,
    "fields": [
        {"name": "speed_kmh", "type": "int"} if field["name"] == "speed_kmh" else field
        for field in SMALL_LOG["fields"]
    ],
}
WRITERS: dict[int, dict[str, Any]] = {
    LOG: load("message_log").avro,
    GPS: load("message_gps").avro,
    SMALL: SMALL_LOG,
    OLDER: OLDER_LOG,
    BINDING: load("device_binding").avro,
}
BAD = {"BAD_AVRO"}
HUGE = (2**62, 2**40, 10**6)


def varint(number: int) -> bytes:
    """An Avro long; any 64-bit number."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def field_bytes(avro_type: Any, value: Any) -> bytes:
    """One value as Avro."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(avro_type, named_schemas={}), value)
    return stream.getvalue()


def datum(writer: dict[str, Any], device_no: str, /, **raw: bytes) -> bytes:
    """A valid record of a terminal, field by field; `raw` replaces the bytes of a field."""
    values = {
        "message_id": device_no.rjust(32, "0"), "device_no": device_no, "device_gen": "STS",
        "received_time": DEVICE_TIME + 1000, "device_time": DEVICE_TIME, "extras": {},
        "tire_pressure_kpa": [], "dtc_codes": ["P1"], "speed_kmh": 43.0,
        "samples": [{"device_time": DEVICE_TIME, "speed_kmh": 43.0, "fix_type": "THREE_D"}],
    }  # fmt: skip
    return b"".join(
        raw.get(field["name"]) or field_bytes(field["type"], values.get(field["name"]))
        for field in writer["fields"]
    )


def frame(schema_id: int, body: bytes) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big") + body


def log(**raw: bytes) -> Callable[[str], bytes]:
    return lambda device_no: frame(LOG, datum(WRITERS[LOG], device_no, **raw))


def gps(samples: bytes) -> Callable[[str], bytes]:
    return lambda device_no: frame(GPS, datum(WRITERS[GPS], device_no, samples=samples))


def small(device_no: str) -> bytes:
    return datum(SMALL_LOG, device_no)


def add_avro(corpus: Corpus) -> None:
    _frames(corpus)
    _truncations(corpus)
    _trailing(corpus)
    _scalars(corpus)
    _blocks(corpus)
    _samples(corpus)


def _add(
    corpus: Corpus, name: str, message: Any, expect: str, errors: Any = (), **more: Any
) -> None:
    corpus.add(f"avro_{name}", message, expect, errors, record=True, **more)


def _frames(corpus: Corpus) -> None:
    for length in range(1, 5):
        _add(corpus, f"frame_{length}_bytes", frame(SMALL, b"")[:length], DEAD, "BAD_FRAMING")
    unframed = {"BAD_FRAMING", "BAD_ENCODING", "INVALID_JSON", "TRUNCATED_JSON"}
    for magic in (1, 2, 0x7F, 0xFF):
        build = lambda d, magic=magic: bytes([magic]) + frame(SMALL, small(d))[1:]  # noqa: E731
        _add(corpus, f"magic_{magic}", build, DEAD, unframed)
    _add(corpus, "not_framed", lambda d: datum(WRITERS[LOG], d), DEAD, unframed)
    for number in (0, 4, 999, 2**31, 2**32 - 1):
        build = lambda d, number=number: frame(number, small(d))  # noqa: E731
        _add(corpus, f"schema_id_{number}", build, DEAD, "UNKNOWN_SCHEMA_ID")
    _add(corpus, "schema_id_little_endian", lambda d: b"\0\3\0\0\0" + small(d), DEAD,
         "UNKNOWN_SCHEMA_ID")  # fmt: skip
    other = {"UNKNOWN_TYPE", "UNKNOWN_SCHEMA_ID", "BAD_AVRO", "SCHEMA"}
    _add(corpus, "schema_of_no_message", lambda d: frame(BINDING, small(d)), DEAD, other)
    _add(corpus, "frame_in_frame", lambda d: frame(SMALL, frame(SMALL, small(d))), DEAD, BAD)
    _add(corpus, "log_as_gps", lambda d: frame(GPS, datum(WRITERS[LOG], d)), DEAD, BAD)
    _add(corpus, "gps_as_log", lambda d: frame(LOG, datum(WRITERS[GPS], d)), DEAD, BAD)
    _add(corpus, "json_in_frame", lambda d: frame(LOG, b'{"device_no":"' + d.encode()), DEAD, BAD)
    _add(corpus, "oversize", lambda d: frame(SMALL, small(d) + b"\0" * 300_000), DEAD, "OVERSIZE")


def _truncations(corpus: Corpus) -> None:
    for cut in range(len(small("H00000"))):
        _add(corpus, f"small_cut_at_{cut:02d}", lambda d, cut=cut: frame(SMALL, small(d)[:cut]),
             DEAD, BAD)  # fmt: skip
    length = len(gps(b"")("H00000"))
    for cut in range(40, length, 16):
        _add(corpus, f"gps_cut_at_{cut:03d}", lambda d, cut=cut: gps(b"")(d)[:cut], DEAD, BAD,
             topic="message-gps")  # fmt: skip


def _trailing(corpus: Corpus) -> None:
    for name, tail in {
        "nul": b"\0",
        "nuls": b"\0" * 100,
        "newline": b"\n",
        "byte": b"\x02",
    }.items():
        _add(
            corpus,
            f"trailing_{name}",
            lambda d, tail=tail: frame(SMALL, small(d)) + tail,
            DEAD,
            BAD,
        )
    _add(corpus, "trailing_datum", lambda d: frame(SMALL, small(d) + small(d + "B")), DEAD, BAD)


def _scalars(corpus: Corpus) -> None:
    for index in (3, 99, 2**40, -(2**62)):
        _add(corpus, f"enum_index_{index}", log(device_gen=varint(index)), DEAD, BAD)
    _add(corpus, "enum_index_-1", log(device_gen=varint(-1)), EITHER)
    for index in (2, -1, 2**40):
        _add(corpus, f"union_branch_{index}", log(boot_count=varint(index)), DEAD, BAD)
    for length in (-1, 2**31, 2**40, 2**62, -(2**63)):
        _add(corpus, f"string_length_{length}", log(device_no=varint(length)), DEAD, BAD)
    for name, spoiled in {
        "ff": b"\xff\xfe",
        "surrogate": b"\xed\xa0\x80",
        "cut": b"\xea\xb0",
    }.items():
        text = varint(len(spoiled)) + spoiled
        _add(corpus, f"not_utf8_{name}", log(firmware_version=varint(1) + text), DEAD,
             BAD | {"BAD_ENCODING"})  # fmt: skip
        _add(corpus, f"not_utf8_{name}_in_array", log(dtc_codes=varint(1) + text + b"\0"), DEAD,
             BAD | {"BAD_ENCODING"})  # fmt: skip
    for name, blank in {"empty": "", "blank": "   "}.items():
        build = log(device_no=field_bytes("string", blank))
        _add(corpus, f"device_{name}", build, DEAD, "MISSING_DEVICE_NO")
    for name, value in {"nan": "nan", "infinite": "inf", "minus_infinite": "-inf"}.items():
        speed = varint(1) + field_bytes("float", float(value))
        lat = varint(1) + field_bytes("double", float(value))
        _add(corpus, f"speed_{name}", log(speed_kmh=speed), FACT)
        _add(corpus, f"position_{name}", log(lat_deg=lat, lon_deg=lat), FACT)
    for number in (2**63 - 1, -(2**63)):
        _add(corpus, f"odometer_{number}", log(odometer_m=varint(1) + varint(number)), FACT)
        _add(corpus, f"device_time_{number}", log(device_time=varint(1) + varint(number)), EITHER)
        _add(corpus, f"received_time_{number}", log(received_time=varint(number)), EITHER)
    for speed in (43, 2**24 + 1):
        build = lambda d, s=speed: frame(OLDER, datum(OLDER_LOG, d, speed_kmh=varint(s)))  # noqa: E731
        flags = ["OUT_OF_RANGE"] * (speed > 300)
        _add(corpus, f"older_integer_speed_{speed}", build, FACT, flags=flags)
    _add(corpus, "varint_11_bytes", log(seq=varint(1) + b"\xff" * 11 + b"\1"), EITHER)
    _add(corpus, "varint_200_bytes", log(seq=varint(1) + b"\x80" * 200), DEAD, BAD)
    _add(corpus, "varint_padded_zero", log(seq=varint(1) + b"\x80\x80\0"), EITHER)
    _add(corpus, "int_beyond_32_bits", log(boot_count=varint(1) + varint(2**40)), EITHER)
    _add(corpus, "boolean_2", log(ignition_on=varint(1) + b"\2"), EITHER)


def _blocks(corpus: Corpus) -> None:
    pressure = field_bytes("float", 240.0)
    for count in (*HUGE, -(2**62), -(2**63), -1):
        sized = varint(count) + (varint(4) if count < 0 else b"")
        _add(corpus, f"array_count_{count}", log(tire_pressure_kpa=sized), DEAD, BAD)
        _add(corpus, f"map_count_{count}", log(extras=sized), DEAD, BAD)
    two = varint(1) + pressure + varint(1) + pressure + b"\0"
    _add(corpus, "array_in_two_blocks", log(tire_pressure_kpa=two), FACT)
    sized = varint(-2) + varint(8) + pressure * 2 + b"\0"
    _add(corpus, "array_in_a_sized_block", log(tire_pressure_kpa=sized), FACT)
    for size in (0, 9, -8, 2**62):
        lying = varint(-2) + varint(size) + pressure * 2 + b"\0"
        _add(corpus, f"array_block_size_{size}", log(tire_pressure_kpa=lying), EITHER)
    entry = field_bytes("string", "k") + field_bytes("string", "1")
    _add(corpus, "map_key_twice", log(extras=varint(2) + entry * 2 + b"\0"), EITHER)
    empty = field_bytes("string", "") + field_bytes("string", "")
    _add(corpus, "map_empty_key", log(extras=varint(1) + empty + b"\0"), FACT, flags="EXTRA_FIELDS")


def _samples(corpus: Corpus) -> None:
    def add(name: str, samples: bytes, expect: str, errors: Any = ()) -> None:
        _add(corpus, f"gps_{name}", gps(samples), expect, errors, topic="message-gps")

    items = next(f for f in WRITERS[GPS]["fields"] if f["name"] == "samples")["type"]["items"]
    one = field_bytes(items, {"device_time": DEVICE_TIME, "fix_type": "NONE"})
    add("no_samples", b"\0", DEAD, "EMPTY")
    for count in HUGE:
        add(f"count_{count}", varint(count) + one, DEAD, BAD)
    add("count_minus_2_to_62", varint(-(2**62)) + varint(len(one)) + one, DEAD, BAD)
    seconds = [
        field_bytes(items, {"device_time": DEVICE_TIME + 1000 * i, "fix_type": "NONE"})
        for i in range(601)
    ]
    add("600_samples", varint(600) + b"".join(seconds[:600]) + b"\0", FACT)
    add("601_samples", varint(601) + b"".join(seconds) + b"\0", DEAD, "TOO_MANY_SAMPLES")
    add("blocks_of_one", b"".join(varint(1) + s for s in seconds[:60]) + b"\0", FACT)
    add("fix_index_5", varint(1) + one.replace(b"\2", b"\x0a") + b"\0", DEAD, BAD)
