"""Hostile JSON: texts whole and embedded, bytes that are no text, truncations, repeated keys."""

from __future__ import annotations

from collections.abc import Callable

from tests.bad_input import json_texts
from tests.bad_input.case import NOT_JSON, Corpus, envelope, spliced, text, without

SURROGATE = {"BAD_ENCODING", "INVALID_JSON"}


def known(value: bytes) -> Callable[[str], bytes]:
    return lambda device_no: spliced(device_no, known=value)


def unknown(value: bytes) -> Callable[[str], bytes]:
    return lambda device_no: spliced(device_no, unknown=value)


def both(value: bytes) -> Callable[[str], bytes]:
    return lambda device_no: spliced(device_no, known=value, unknown=value)


def add_texts(corpus: Corpus) -> None:
    """Every handwritten text as a message, and inside one: what must be read as the value of a
    known and of an unknown key at once, what must not be read as one of them in turn."""
    for name, value in json_texts.ACCEPTED.items():
        is_object = value.strip().startswith(b"{")
        errors = "UNKNOWN_TYPE" if is_object else "INVALID_JSON"
        if name == "object_like_upload":
            errors = "EMPTY"
        corpus.dead(f"y_{name}", value, errors)
        corpus.fact(f"y_{name}_inside", both(value), flags="EXTRA_FIELDS")
    for position, (name, value) in enumerate(json_texts.REFUSED.items()):
        framed = {"BAD_FRAMING"} if value.startswith(b"\0") else set()
        corpus.dead(f"n_{name}", value, NOT_JSON | framed)
        if position % 2:
            corpus.dead(f"n_{name}_known", known(value), NOT_JSON)
        else:
            corpus.dead(f"n_{name}_unknown", unknown(value), NOT_JSON)
    for name, value in json_texts.UP_TO_THE_READER.items():
        corpus.dead(f"i_{name}", value, "INVALID_JSON")
        corpus.fact(f"i_{name}_inside", both(value), flags="EXTRA_FIELDS")
    corpus.fact("i_number_1e999_known", known(b"1e999"), flags="TYPE_INVALID")
    for name, value in json_texts.LONE_SURROGATES.items():
        corpus.dead(f"i_{name}", value, SURROGATE | {"UNKNOWN_TYPE"})
        corpus.either(f"i_{name}_inside", both(value), errors=SURROGATE)


def add_bytes(corpus: Corpus) -> None:
    """Bytes that are not UTF-8, in a value and in a key, and other ways to spoil an encoding."""
    for name, value in json_texts.NOT_UTF8.items():
        quoted = b'"' + value + b'"'
        corpus.dead(f"utf8_{name}_value", lambda d, q=quoted: spliced(d, fw=q), "BAD_ENCODING")
        corpus.dead(
            f"utf8_{name}_key",
            lambda d, q=quoted: spliced(d, unknown=b"{" + q + b":1}"),
            "BAD_ENCODING",
        )
    corpus.dead("utf8_outside", lambda d: spliced(d, tail=b"\xff"), "BAD_ENCODING")
    corpus.dead("utf8_only", b"\xff\xfe\xfd", "BAD_ENCODING")
    corpus.dead(
        "utf8_cut_character",
        lambda d: spliced(d, fw='"서울'.encode()).split(b'"\xec')[0] + b'"\xec\x84',
        {"BAD_ENCODING", "TRUNCATED_JSON"},
    )
    corpus.dead("utf16_bom", lambda d: spliced(d).decode().encode("utf-16"), "BAD_ENCODING")
    corpus.dead(
        "utf16_le", lambda d: spliced(d).decode().encode("utf-16-le"), NOT_JSON | {"BAD_ENCODING"}
    )
    corpus.dead(
        "utf16_be",
        lambda d: spliced(d).decode().encode("utf-16-be"),
        NOT_JSON | {"BAD_FRAMING", "UNKNOWN_SCHEMA_ID", "BAD_ENCODING", "BAD_AVRO"},
    )
    corpus.either("bom_before", lambda d: b"\xef\xbb\xbf" + spliced(d), errors=NOT_JSON)
    corpus.dead("nul_after", lambda d: spliced(d, tail=b"\0"), NOT_JSON)
    corpus.dead("nuls_after", lambda d: spliced(d, tail=b"\0" * 64), NOT_JSON)
    corpus.dead("nul_inside", lambda d: spliced(d, fw=b'"a\0b"'), NOT_JSON)
    corpus.dead("control_inside", lambda d: spliced(d, fw=b'"a\x01b"'), NOT_JSON)
    corpus.dead("tab_inside", lambda d: spliced(d, fw=b'"a\tb"'), NOT_JSON)
    corpus.fact("cr_after", lambda d: spliced(d, tail=b" \r"))
    corpus.fact("space_after", lambda d: spliced(d, tail=b" \t  "))
    corpus.fact("space_before", lambda d: b" \t " + spliced(d))
    corpus.fact("space_everywhere", lambda d: spliced(d).replace(b",", b" ,\t"))


def add_lines(corpus: Corpus) -> None:
    """Lines that are no message, and messages that are no line."""
    corpus.dead("line_empty", b"", "EMPTY")
    corpus.dead("line_spaces", b"   ", {"EMPTY"} | NOT_JSON)
    corpus.dead("line_tabs", b"\t\t", {"EMPTY"} | NOT_JSON)
    corpus.dead("line_nul", b"\0", {"BAD_FRAMING"} | NOT_JSON)
    corpus.dead("two_objects", lambda d: spliced(d) + spliced(d + "B"), "INVALID_JSON")
    corpus.dead("two_objects_space", lambda d: spliced(d) + b" " + spliced(d + "B"), "INVALID_JSON")
    corpus.dead("two_objects_comma", lambda d: spliced(d) + b"," + spliced(d + "B"), "INVALID_JSON")
    corpus.dead("two_objects_cr", lambda d: spliced(d) + b"\r" + spliced(d + "B"), "INVALID_JSON")
    corpus.dead("two_empty_objects", b"{}{}", "INVALID_JSON")
    corpus.dead("array_of_uploads", lambda d: b"[" + spliced(d) + b"]", "INVALID_JSON")
    corpus.dead("string_of_upload", lambda d: text(spliced(d).decode()), "INVALID_JSON")
    corpus.dead("first_half", lambda d: spliced(d).partition(b',"zz"')[0] + b",", "TRUNCATED_JSON")
    corpus.dead("second_half", b'"zz":1,"d":{"ign":true,"spd":43}}', "INVALID_JSON")
    corpus.dead("brace_alone", b"{", "TRUNCATED_JSON")
    corpus.dead("brace_rest", lambda d: spliced(d)[1:], "INVALID_JSON")
    corpus.dead("close_then_upload", lambda d: b"}" + spliced(d), "INVALID_JSON")
    corpus.dead("one_brace_too_many", lambda d: spliced(d, tail=b"}"), "INVALID_JSON")
    corpus.dead("one_brace_too_few", lambda d: spliced(d)[:-1], "TRUNCATED_JSON")
    # Two lines that together hold two objects: a reader of objects would not notice.
    corpus.dead("borrowing_open", lambda d: spliced(d) + b'{"device_no":"' + d.encode(), NOT_JSON)
    corpus.dead("borrowing_close", b'X","type":"log","d":{}}', NOT_JSON)


def add_repeated_keys(corpus: Corpus) -> None:
    """The same key twice, at every level of an upload."""
    for name, value in json_texts.REPEATED_KEYS.items():
        if value.startswith(b"{"):
            corpus.dead(f"repeated_{name}", value, "DUPLICATE_KEY")
        corpus.dead(f"repeated_{name}_known", known(value), "DUPLICATE_KEY")
        corpus.dead(f"repeated_{name}_unknown", unknown(value), "DUPLICATE_KEY")

    def twice(kind: str, found: bytes, added: bytes) -> Callable[[str], bytes]:
        return lambda device_no: text(envelope(device_no, kind)).replace(found, added + found, 1)

    places = {
        "type": ("log", b'"type":', b'"type":"log",'),
        "type_other": ("log", b'"type":', b'"type":"gps",'),
        "device_no": ("log", b'"device_no":', b'"device_no":"Z",'),
        "escaped_device_no": ("log", b'"device_no":', b'"device\\u005fno":"Z",'),
        "ts": ("boot", b'"ts":', b'"ts":1,'),
        "timestamp": ("log", b'"timestamp":', b'"timestamp":"x",'),
        "seq": ("gps", b'"seq":', b'"seq":1,'),
        "d": ("log", b'"d":', b'"d":{},'),
        "d_null": ("boot", b'"d":', b'"d":null,'),
        "data": ("gps", b'"data":', b'"data":[],'),
        "report_key": ("log", b'"bat":', b'"bat":14.1,'),
        "sample_key": ("gps", b'"lat":', b'"lat":1,'),
        "sample_ts": ("kinematic", b'"ts":', b'"ts":1,'),
        "unknown_key": ("adas", b'"lat":', b'"q":1,"q":1,'),
    }
    for name, (kind, found, added) in places.items():
        build = twice(kind, found, added)
        corpus.dead(f"repeated_{name}", build, "DUPLICATE_KEY", topic=f"message-{kind}")


def add_truncations(corpus: Corpus, count: int) -> None:
    """A gps upload cut at `count` places spread over all of it."""

    def whole(device_no: str) -> bytes:
        second = {"ts": 1705278613000, "lat": 37.5, "q": [{"a": None}, "b\\", True], "fix": 3}
        upload = envelope(device_no, "gps", note='서울 "quoted"', sw=[1, -2.5e3])
        upload["data"].append(second)
        return text(upload)

    length = len(whole("H00000"))
    for step in range(count):
        cut = 1 + step * (length - 1) // count
        corpus.dead(
            f"truncated_at_{cut:03d}",
            lambda d, cut=cut: whole(d)[:cut],
            {"TRUNCATED_JSON", "BAD_ENCODING"},
            topic="message-gps",
        )


def add_nesting(corpus: Corpus) -> None:
    """Depth: sixteen is allowed, counted from the upload's own brace; seventeen is not."""
    for depth in (14, 15):
        arrays, objects = b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth
        corpus.fact(f"deep_{depth}_arrays", unknown(arrays))
        corpus.fact(f"deep_{depth}_objects", unknown(objects))
    too_deep = {"TOO_DEEP"}
    for depth in (17, 100, 1_000, 10_000, 40_000):
        arrays, objects = b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth
        corpus.dead(f"deep_{depth}_arrays_unknown", unknown(arrays), too_deep)
        corpus.dead(f"deep_{depth}_arrays_known", known(arrays), too_deep)
        if len(objects) < 250_000:
            corpus.dead(f"deep_{depth}_objects_unknown", unknown(objects), too_deep)
            corpus.dead(f"deep_{depth}_objects_known", known(objects), too_deep)
    broken = {"TOO_DEEP"} | NOT_JSON
    for depth in (100, 100_000):
        corpus.dead(f"deep_{depth}_whole", b"[" * depth + b"]" * depth, too_deep)
        corpus.dead(f"deep_{depth}_open", b"[" * depth, broken)
        corpus.dead(f"deep_{depth}_close", b"]" * depth, broken)
        corpus.dead(f"deep_{depth}_open_known", known(b"[" * depth), broken)
        corpus.dead(f"deep_{depth}_open_unknown", unknown(b"[" * depth), broken)
    corpus.dead("deep_open_objects", b'{"a":' * 40_000, broken)
    corpus.dead("deep_mixed_open", b'[{"":' * 40_000, broken)
    corpus.dead(
        "deep_tire_pressure",
        lambda d: text(envelope(d)).replace(
            b'"bat":', b'"tp":' + b"[" * 5_000 + b"]" * 5_000 + b',"bat":'
        ),
        too_deep,
    )
    corpus.dead("deep_data", lambda d: without(envelope(d, "gps"), "data")[:-1]
                + b',"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", too_deep,
                topic="message-gps")  # fmt: skip
    corpus.dead("deep_data_samples", lambda d: without(envelope(d, "gps"), "data")[:-1]
                + b',"data":[' + b'{"data":[' * 20_000 + b"]}" * 20_000 + b"]}", too_deep,
                topic="message-gps")  # fmt: skip
    corpus.dead(
        "deep_in_type",
        lambda d: text(envelope(d)).replace(b'"log"', b"[" * 20_000 + b"]" * 20_000),
        too_deep,
    )
    corpus.dead(
        "deep_in_device_no",
        lambda d: text(envelope(d)).replace(
            b'"' + d.encode() + b'"', b"[" * 20_000 + b"]" * 20_000
        ),
        too_deep,
    )
    corpus.fact("brackets_in_a_string", lambda d: spliced(d, fw=b'"' + b"[" * 100_000 + b'"'))
    corpus.fact("brackets_after_escapes", lambda d: spliced(d, fw=b'"\\\\\\"' + b"{" * 40 + b'"'))
