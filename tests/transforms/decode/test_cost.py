"""What a message costs grows with its bytes, whatever a sender writes into it."""

from __future__ import annotations

import json
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.decode.decoder import Decoder, decode
from transforms.decode.repair import nesting
from transforms.model import raw_messages
from transforms.model.thresholds import Bounds

SMALL, LARGE = 64 << 10, 256 << 10
CEILING_S = 2.0
"""Of processor time; the largest message that can be written takes less than a tenth of it."""
GROWTH, NOISE_S = 6, 0.3
HEAD = b'{"device_no":"0001","type":"gps","timestamp":"2024-01-15T03:00:20GMT",'


def uploads(*values: bytes) -> pa.RecordBatch:
    source = raw_messages.Source("message-gps", 0, None, None)
    return raw_messages.from_lines(pa.array(values, pa.binary()), source, is_line=False)


def sound(number: int) -> bytes:
    samples = [{"ts": 1_705_287_600_000 + 1000 * at, "lat": 37.5, "lon": 127.0} for at in range(60)]
    message = {"device_no": f"{number:04d}", "type": "gps", "seq": number, "data": samples}
    stamp = {"timestamp": "2024-01-15T03:00:20GMT"}
    return json.dumps(message | stamp, separators=(",", ":")).encode()


def cost_s(value: bytes) -> float:
    """Processor time of decoding a message alone; it is good or dead, once."""
    raw = uploads(value)
    began = time.process_time()
    outcome = decode(raw, Decoder())
    took = time.process_time() - began
    assert sum(map(len, outcome.good)) + outcome.dead.num_rows == 1
    return took


def filled(start: bytes, unit: bytes, end: bytes, size: int) -> bytes:
    return start + unit * ((size - len(start) - len(end)) // len(unit)) + end


def keys(size: int) -> bytes:
    body = b",".join(b'"k%05d":1' % at for at in range((size - 200) // 11))
    return HEAD + b'"data":[{"ts":1705287607000}],' + body + b"}"


def sample_keys(size: int) -> bytes:
    samples = (b'{"ts":1705287607000,"k%05d":1}' % at for at in range(min(size // 31 - 8, 600)))
    return HEAD + b'"data":[' + b",".join(samples) + b"]}"


SHAPES = {
    "escaped quotes": lambda size: filled(b"", b'\\"', b"", size),
    "escaped quotes in an object": lambda size: filled(b'{"', b'\\"', b"}", size),
    "backslashes": lambda size: filled(b'{"a":"', b"\\", b"", size),
    "quotes": lambda size: filled(b"{", b'"', b"}", size),
    "strings without an end": lambda size: filled(HEAD, b'"a', b"", size),
    "open arrays": lambda size: filled(HEAD + b'"a":', b"[", b"", size),
    "open objects": lambda size: filled(b"{}", b'{"a":', b"", size),
    "short arrays": lambda size: filled(HEAD + b'"a":[', b"[],", b"[]]}", size),
    "a key again and again": lambda size: filled(HEAD, b'"a":1,', b'"b":1}', size),
    "different keys": keys,
    "different keys of samples": sample_keys,
    "digits": lambda size: filled(HEAD + b'"seq":', b"9", b"}", size),
    "a fraction": lambda size: filled(HEAD + b'"seq":0.', b"1", b"}", size),
    "blanks": lambda size: filled(HEAD, b" ", b'"a":1}', size),
    "newlines": lambda size: filled(b"{", b"\n", b"}", size),
    "escapes of characters": lambda size: filled(HEAD + b'"a":"', b"\\u00e9", b'"}', size),
    "halves of characters": lambda size: filled(HEAD + b'"a":"', b"\\ud800", b'"}', size),
    "no UTF-8": lambda size: filled(HEAD, b"\xff", b"}", size),
    "a long terminal number": lambda size: filled(
        b'{"device_no":"', b"0", b'","type":"gps"}', size
    ),
    "columns of a CSA line": lambda size: filled(b"$CSA,", b",", b"*00", size),
    "stars in a CSA line": lambda size: filled(b"$CSA,", b"*0", b"", size),
    "digits in a CSA line": lambda size: filled(b"$CSA,2.1,010,GPS,", b"1", b"*00", size),
    "zeros": lambda size: filled(b"\0\0\0\0\1", b"\0", b"", size),
    "long Avro numbers": lambda size: filled(b"\0\0\0\0\1", b"\xff", b"", size),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_four_times_the_bytes_cost_at_most_six_times_as_much(shape):
    small = min(cost_s(shape(SMALL)) for _ in range(2))
    large = min(cost_s(shape(LARGE)) for _ in range(2))
    assert large < CEILING_S
    assert large <= GROWTH * small + NOISE_S


TOKENS = [b'"', b"\\", b'\\"', b"{", b"}", b"[", b"]", b",", b":", b"1", b"-", b"e9", b"\\u0061"]
TOKENS += [
    b"null",
    b" ",
    b"\n",
    b"\t",
    b'"a":',
    b'"data":[',
    b"{}",
    b"[]",
    b"\xc3\xa9",
    b"\xff",
    b"*",
]


@settings(max_examples=25, deadline=None)
@given(
    start=st.sampled_from([b"", b"{", HEAD, b"$CSA,"]),
    unit=st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4).map(b"".join),
    end=st.sampled_from([b"", b"}", b"]}", b'"}', b"*00"]),
)
def test_no_repeated_text_blows_up(start, unit, end):
    assert cost_s(filled(start, unit, end, LARGE)) < CEILING_S


def test_a_message_with_very_many_keys_is_refused_and_its_neighbours_are_decoded_natively():
    others = [sound(number) for number in range(50)]
    outcome = decode(uploads(*others[:25], keys(LARGE), *others[25:]), Decoder())
    assert outcome.dead.column("error_type").to_pylist() == ["TOO_MANY_KEYS"]
    assert sum(map(len, outcome.good)) == 50


def test_a_message_with_as_many_keys_as_are_allowed_keeps_them():
    allowed = Bounds().max_keys - 6  # those of HEAD and the sample
    body = b",".join(b'"k%05d":1' % at for at in range(allowed))
    message = HEAD + b'"data":[{"ts":1705287607000}],' + body + b"}"
    (good,) = decode(uploads(message), Decoder()).good
    assert len(good.head.column("extras")[0]) == allowed


def test_keys_of_many_messages_are_not_added_up():
    messages = [
        sound(number)[:-1]
        + b","
        + b",".join(b'"k%d_%d":1' % (number, at) for at in range(20))
        + b"}"
        for number in range(200)
    ]
    outcome = decode(uploads(*messages), Decoder())
    assert outcome.dead.num_rows == 0
    assert sum(map(len, outcome.good)) == 200


@pytest.mark.parametrize(
    ("text", "deep"),
    [
        (b'{"a":[1,{"b":"]]]"}]}', 3),
        (b'{"a":"\\"[[["}', 1),
        (b'[["no end [[[', 2),
        (b'["ends with a backslash \\', 1),
        (b"", 0),
    ],
)
def test_brackets_nest_outside_strings_only(text, deep):
    assert nesting(text) == deep
