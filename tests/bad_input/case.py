"""A hostile message with what docs/rules.md says must become of it, and how to build uploads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import reduce
from operator import xor

DEVICE_TIME = 1_705_278_612_000
RECEIVED = "2024-01-15T00:30:13GMT"
FACT, DEAD, EITHER = "fact", "dead", "either"
NOT_JSON = frozenset({"INVALID_JSON", "TRUNCATED_JSON"})


@dataclass(frozen=True)
class Case:
    """One message. `errors` are the error types a dead letter may have (empty: any), `flags`
    those a fact must have; `device_no` is the terminal a fact must belong to."""

    name: str
    value: bytes | None
    expect: str
    errors: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()
    device_no: str | None = None
    topic: str = "message-log"
    record: bool = False

    @property
    def raw(self) -> bytes:
        """The bytes a dead letter must hold; a null record has none."""
        return self.value or b""


@dataclass
class Corpus:
    """Collects cases; each upload is made for a terminal of its own, so that none is a copy."""

    cases: list[Case] = field(default_factory=list)

    def add(
        self,
        name: str,
        message: bytes | Callable[[str], bytes] | None,
        expect: str,
        errors: Iterable[str] = (),
        flags: Iterable[str] = (),
        topic: str = "message-log",
        record: bool = False,
    ) -> None:
        """A message as bytes, or as a function of its terminal's number."""
        device_no = f"H{len(self.cases):05d}" if callable(message) else None
        value = message(device_no) if callable(message) else message
        if device_no and value and device_no.encode() not in value:
            device_no = None
        words = (errors,) if isinstance(errors, str) else errors
        marks = (flags,) if isinstance(flags, str) else flags
        case = Case(
            name, value, expect, frozenset(words), frozenset(marks), device_no, topic, record
        )
        self.cases.append(case)

    def fact(self, name: str, message: bytes | Callable[[str], bytes], **more: object) -> None:
        self.add(name, message, FACT, **more)

    def dead(
        self,
        name: str,
        message: bytes | Callable[[str], bytes] | None,
        errors: Iterable[str] = (),
        **more: object,
    ) -> None:
        self.add(name, message, DEAD, errors, **more)

    def either(self, name: str, message: bytes | Callable[[str], bytes], **more: object) -> None:
        self.add(name, message, EITHER, **more)


def text(value: object) -> bytes:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def envelope(device_no: str, kind: str = "log", /, **more: object) -> dict[str, object]:
    """A valid upload of one report or one sample as plain values; `more` replaces and adds."""
    upload = {
        "device_no": device_no, "type": kind, "fw": "STS-2.4.1", "boot": 1, "seq": 7,
        "timestamp": RECEIVED,
    }  # fmt: skip
    if kind in ("log", "boot"):
        upload |= {"ts": DEVICE_TIME, "d": {"bat": 14.1}}
    else:
        upload["data"] = [{"ts": DEVICE_TIME, "lat": 37.5443, "lon": 127.0557}]
    return upload | more


def without(upload: dict[str, object], *keys: str) -> bytes:
    """The upload as JSON, some keys left out."""
    return text({key: value for key, value in upload.items() if key not in keys})


def spliced(device_no: str, known: bytes = b"43", unknown: bytes = b"1", **places: bytes) -> bytes:
    """A valid log upload with raw bytes as the value of a known and of an unknown key."""
    fw, tail = places.get("fw", b'"STS-2.4.1"'), places.get("tail", b"")
    return (
        b'{"device_no":"' + device_no.encode() + b'","type":"log","fw":' + fw
        + b',"boot":1,"seq":7,"ts":1705278612000,"timestamp":"2024-01-15T00:30:13GMT","zz":'
        + unknown + b',"d":{"ign":true,"spd":' + known + b"}}" + tail
    )  # fmt: skip


CSA_COLUMNS = (
    "CSA,1.3,{phone},LOG,240115093012,A,3732.6580,N,12703.3420,E,043,091,0482134,141,05,061"
)


def csa(body: str | bytes) -> bytes:
    """A CSA line with the right checksum around `body`."""
    body = body.encode() if isinstance(body, str) else body
    return b"$" + body + b"*%02X" % reduce(xor, body, 0)


def csa_with(position: int, value: str) -> Callable[[str], bytes]:
    """A valid CSA log line of a terminal with one column exchanged."""

    def build(device_no: str) -> bytes:
        columns = CSA_COLUMNS.format(phone=device_no).split(",")
        columns[position] = value
        return csa(",".join(columns))

    return build
