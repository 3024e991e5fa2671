"""Hostile uploads: valid JSON whose envelope, samples or fields are not what they should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schemas import MESSAGE_TYPES, REPORT_TYPES, Field, envelope_fields, payload_fields
from tests.bad_input.case import DEVICE_TIME, Corpus, csa_with, envelope, spliced, text, without

WITHOUT_NUMBER = {"MISSING_DEVICE_NO", "TYPE", "SCHEMA"}
SIZE_LIMIT = 262_144


def made(kind: str = "log", /, **more: Any) -> Callable[[str], bytes]:
    return lambda device_no: text(envelope(device_no, kind, **more))


def lacking(kind: str, /, *keys: str, **more: Any) -> Callable[[str], bytes]:
    return lambda device_no: without(envelope(device_no, kind, **more), *keys)


def add_envelopes(corpus: Corpus) -> None:
    """Type, terminal, times."""
    corpus.dead("type_absent", lacking("log", "type"), "UNKNOWN_TYPE")
    for name, value in {
        "null": None, "number": 1, "true": True, "array": ["log"], "object": {}, "empty": "",
        "capital": "LOG", "space": " log", "nul": "log\0", "other": "dtc", "prefix": "lo",
        "column": "message_id", "long": "x" * 5000,
    }.items():  # fmt: skip
        corpus.dead(f"type_{name}", made(type=value), "UNKNOWN_TYPE")
    corpus.dead("device_absent", lacking("log", "device_no"), "MISSING_DEVICE_NO")
    for name, value in {"null": None, "empty": "", "spaces": "   ", "tabs": "\t\n"}.items():
        corpus.dead(f"device_{name}", made(device_no=value, x=name), "MISSING_DEVICE_NO")
    for name, value in {"true": True, "array": ["1"], "object": {"a": 1}}.items():
        corpus.dead(f"device_{name}", made(device_no=value), WITHOUT_NUMBER)
    ambiguous = {"AMBIGUOUS_DEVICE_NO", "TYPE"}
    for name, value in {"unknown_number": 987654321, "negative": -5, "fraction": 1.5}.items():
        corpus.dead(f"device_{name}", made(device_no=value), ambiguous | WITHOUT_NUMBER)
    corpus.dead(
        "device_1e999", lambda d: text(envelope(d)).replace(b'"' + d.encode() + b'"', b"1e999"),
        ambiguous | WITHOUT_NUMBER,
    )  # fmt: skip
    corpus.dead(
        "device_huge_number",
        lambda d: text(envelope(d)).replace(b'"' + d.encode() + b'"', b"9" * 3000),
        ambiguous | WITHOUT_NUMBER,
    )
    corpus.either("device_long", made(device_no="L" * 4000))
    corpus.either("device_path", made(device_no="../../../etc/passwd"))
    corpus.either("device_nul", made(device_no="H\0H"))
    corpus.either("device_nbsp", made(device_no="\u00a0"))
    no_time = {"NO_TIME"}
    corpus.dead("time_absent", lacking("log", "ts", "timestamp"), no_time)
    corpus.dead("time_null", made(ts=None, timestamp=None), no_time)
    corpus.dead("time_wrong", made(ts="x", timestamp="yesterday"), no_time)
    corpus.dead("time_absent_gps", lacking("gps", "timestamp", data=[{"lat": 1}]), no_time,
                topic="message-gps")  # fmt: skip
    corpus.fact("ts_absent", lacking("log", "ts"), flags="DEVICE_TIME_MISSING")
    corpus.fact("timestamp_absent", lacking("log", "timestamp"), flags="RECEIVED_TIME_ESTIMATED")
    for name, value in {
        "text": "noon", "true": True, "array": [DEVICE_TIME], "object": {}, "fraction": 1.5,
        "huge": 10**30,
    }.items():  # fmt: skip
        flags = {"DEVICE_TIME_MISSING", "TYPE_INVALID"}
        corpus.fact(f"ts_{name}", made(ts=value), flags=flags)
    for name, value in {
        "negative": -1, "int64": 2**63 - 1, "int64_lowest": -(2**63), "year_10000": 253402300800000
    }.items():  # fmt: skip
        corpus.fact(f"ts_{name}", made(ts=value))
    corpus.fact("ts_zero", made(ts=0), flags="CLOCK_EPOCH")
    corpus.fact("ts_year_9999", made(ts=253402300799999), flags="CLOCK_FUTURE")
    corpus.fact("ts_seconds", made(ts=DEVICE_TIME // 1000), flags="TYPE_COERCED")
    corpus.fact("ts_text_digits", made(ts=str(DEVICE_TIME)), flags="TYPE_COERCED")
    for name, value in {
        "number": 5, "true": True, "array": [], "object": {}, "empty": "", "date": "2024-01-15",
        "month_13": "2024-13-15T00:30:13GMT", "zone": "2024-01-15T00:30:13PST",
        "long": "2" * 5000,
    }.items():  # fmt: skip
        corpus.fact(f"timestamp_{name}", made(timestamp=value), flags="RECEIVED_TIME_ESTIMATED")
    corpus.either("timestamp_year_1", made(timestamp="0001-01-01T00:00:00KST"))
    corpus.either("timestamp_year_9999", made(timestamp="9999-12-31T23:59:59GMT"))
    corpus.either("timestamp_leap_second", made(timestamp="2016-12-31T23:59:60GMT"))


def add_payloads(corpus: Corpus) -> None:
    """`d` and `data`: absent, of the wrong kind, empty, too many."""
    for kind in MESSAGE_TYPES:
        key, topic = "d" if kind in REPORT_TYPES else "data", f"message-{kind}"
        corpus.dead(f"{kind}_absent", lacking(kind, key), "SCHEMA", topic=topic)
        wrong = [None, "x", 1, [{}] if key == "d" else {"ts": 1}]
        for value in wrong:
            name = f"{kind}_is_{type(value).__name__}"
            corpus.dead(name, made(kind, **{key: value}), "SCHEMA", topic=topic)
        if key == "d":
            corpus.fact(f"{kind}_empty_report", made(kind, d={}), topic=topic)
            corpus.fact(
                f"{kind}_also_data", made(kind, data=[1]), flags="EXTRA_FIELDS", topic=topic
            )
            continue
        corpus.dead(f"{kind}_no_samples", made(kind, data=[]), "EMPTY", topic=topic)
        corpus.fact(f"{kind}_empty_sample", made(kind, data=[{}]), topic=topic)
        for value in (None, 1, []):
            name = f"{kind}_sample_is_{type(value).__name__}"
            corpus.dead(name, made(kind, data=[{"ts": DEVICE_TIME}, value]), "SCHEMA", topic=topic)
    for count in (600, 601, 10_000):
        samples = [{"ts": DEVICE_TIME + 1000 * i} for i in range(count)]
        if count <= 600:
            corpus.fact(f"gps_{count}_samples", made("gps", data=samples), topic="message-gps")
        else:
            build = made("gps", data=samples)
            limits = {"TOO_MANY_SAMPLES"} | ({"OVERSIZE"} if count > 9_000 else set())
            corpus.dead(f"gps_{count}_samples", build, limits, topic="message-gps")
    corpus.dead(
        "gps_60000_empty_samples", made("gps", data=[{}] * 60_000), "TOO_MANY_SAMPLES",
        topic="message-gps",
    )  # fmt: skip
    corpus.fact("gps_identical_samples", made("gps", data=[{"ts": DEVICE_TIME}] * 60),
                topic="message-gps")  # fmt: skip
    corpus.fact("gps_on_the_log_topic", made("gps"))
    corpus.fact("log_on_the_gps_topic", made("log"), topic="message-gps")


def add_sizes(corpus: Corpus) -> None:
    """As long as allowed, and longer; long strings, arrays, keys, many keys."""

    def padded(size: int) -> Callable[[str], bytes]:
        def build(device_no: str) -> bytes:
            bare = len(spliced(device_no, fw=b'""'))
            return spliced(device_no, fw=b'"' + b"x" * (size - bare) + b'"')

        return build

    corpus.fact("size_at_limit", padded(SIZE_LIMIT))
    for name, size in {"beyond_limit": SIZE_LIMIT + 1, "one_mb": 1 << 20, "3_mb": 3 << 20}.items():
        corpus.dead(f"size_{name}", padded(size), "OVERSIZE")
    corpus.dead("size_spaces", lambda d: spliced(d, tail=b" " * SIZE_LIMIT), "OVERSIZE")
    corpus.dead("size_not_json", b"x" * (SIZE_LIMIT + 1), "OVERSIZE")
    corpus.dead("size_deep", b"[" * 300_000, "OVERSIZE")
    corpus.dead("size_not_utf8", b"\xff" * 300_000, "OVERSIZE")
    corpus.fact("long_key", made(**{"k" * 100_000: 1}), flags="EXTRA_FIELDS")
    corpus.dead("many_keys", made(**{f"k{i}": i for i in range(10_000)}), "TOO_MANY_KEYS")
    corpus.dead("many_keys_in_d", made(d={f"k{i}": i for i in range(10_000)}), "TOO_MANY_KEYS")
    corpus.fact("long_unknown_array", made(q=[0] * 100_000), flags="EXTRA_FIELDS")
    corpus.fact("long_codes", made(d={"dtc": ["P0001"] * 20_000}))
    corpus.fact("long_burst", made("kinematic", data=[{"ts": DEVICE_TIME, "vx": [0.1] * 50_000}]),
                topic="message-kinematic")  # fmt: skip
    corpus.fact("long_escapes", lambda d: spliced(d, fw=b'"' + b"\\u0041" * 40_000 + b'"'))
    corpus.fact("keys_like_columns", made(
        message_id="x", sample_idx=3, vehicle_id="V", event_time=1, quality_flags=["M"],
        extras={"a": 1}, object="o", line=1, date="2024", received_time=1, upload=9, flags=7,
    ), flags="EXTRA_FIELDS")  # fmt: skip


def add_fields(corpus: Corpus) -> None:
    """Every field of every type with values that are not of its type."""
    for kind in MESSAGE_TYPES:
        for position, field in enumerate(payload_fields(kind)):
            if field.name != "device_time":
                _field(corpus, kind, field, position)
    for position, field in enumerate(envelope_fields()):
        if field.sts and field.name not in ("device_no", "received_time"):
            value = _wrong(field)[position % len(_wrong(field))]
            corpus.fact(f"envelope_{field.name}_wrong", made(**{field.sts: value}),
                        flags="TYPE_INVALID")  # fmt: skip
    corpus.fact("speed_text", made(d={"spd": "11.4"}), flags="TYPE_COERCED")
    corpus.fact("switch_number", made(d={"ign": 1}), flags="TYPE_COERCED")
    corpus.fact("odometer_float", made(d={"odo": 11.0}), flags="TYPE_COERCED")
    corpus.fact("firmware_number", made(fw=2.4), flags="TYPE_COERCED")
    corpus.fact("fix_unknown_code", made("gps", data=[{"ts": DEVICE_TIME, "fix": 99}]),
                topic="message-gps")  # fmt: skip


def _wrong(field: Field) -> list[Any]:
    """Values that no reading of rule M15 turns into the field's type."""
    if field.kind in ("string",):
        return [{}, [], [1]]
    if field.kind == "array":
        return ["x", 1, {"a": []}, True]
    if field.kind == "boolean":
        return ["maybe", 2, [], {}]
    return ["abc", {}, [], [1], "", "1.2.3", "0x1F"]


def _field(corpus: Corpus, kind: str, field: Field, position: int) -> None:
    wrong = _wrong(field)
    value = wrong[position % len(wrong)]

    def build(device_no: str) -> bytes:
        if kind in REPORT_TYPES:
            return text(envelope(device_no, kind, d={field.sts: value}))
        return text(envelope(device_no, kind, data=[{"ts": DEVICE_TIME, field.sts: value}]))

    name = f"{kind}_{field.name}_is_{type(value).__name__}"
    corpus.fact(name, build, flags="TYPE_INVALID", topic=f"message-{kind}")


def add_records(corpus: Corpus) -> None:
    """What only a Kafka record can hold: nothing at all, and line ends inside and after."""

    def record(name: str, message: Any, expect: str, errors: Any = (), **more: Any) -> None:
        corpus.add(f"record_{name}", message, expect, errors, record=True, **more)

    record("null", None, "dead", "EMPTY")
    record("empty", b"", "dead", "EMPTY")
    record("newline", b"\n", "dead", "EMPTY")
    record("no_type_newline", b'{"a":1}\n', "dead", "UNKNOWN_TYPE")
    record("no_type_cr_newline", b'{"a":2}\r\n', "dead", "UNKNOWN_TYPE")
    record("two_lines", lambda d: spliced(d) + b"\n" + spliced(d + "B"), "dead", "INVALID_JSON")
    record("two_lines_newline", lambda d: spliced(d) + b"\n" + spliced(d + "B") + b"\n", "dead",
           "INVALID_JSON")  # fmt: skip
    record("half_a_line", lambda d: spliced(d)[:80] + b"\n", "dead", "TRUNCATED_JSON")
    record("newline_in_string", lambda d: spliced(d, fw=b'"a\nb"'), "dead",
           {"INVALID_JSON", "TRUNCATED_JSON"})  # fmt: skip
    record("pretty", lambda d: spliced(d).replace(b",", b",\n  "), "fact")
    record("newline_after", lambda d: spliced(d) + b"\n", "fact")
    record("newlines_before", lambda d: b"\n\n" + spliced(d), "fact")
    record("no_time_of_its_own", lacking("log", "ts", "timestamp"), "fact",
           flags="DEVICE_TIME_MISSING")  # fmt: skip
    csa = csa_with(3, "LOG")
    record("csa", csa, "fact")
    record("csa_newline", lambda d: csa(d) + b"\r\n", "fact")
    record("csa_no_time", csa_with(4, ""), "fact")
    record("csa_two_lines", lambda d: csa(d) + b"\n" + csa(d + "B"), "dead",
           {"TRUNCATED", "CHECKSUM"})  # fmt: skip
