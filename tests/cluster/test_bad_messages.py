"""What no pipeline can read becomes a dead letter, and everything behind it goes on."""

from __future__ import annotations

import struct

import pytest

from connectors.schema_registry.lookup import ids
from tests.cluster import oracle
from tests.cluster.fleet import until
from tests.cluster.messages import START_MS, bindings, log, send

pytestmark = pytest.mark.cluster

TERMINAL = "0102030405"
KEY = TERMINAL.encode()


def framed(schema_id: int, body: bytes) -> bytes:
    return b"\0" + struct.pack(">i", schema_id) + body


def test_poison_of_every_kind_becomes_a_dead_letter_and_offsets_advance(fleet):
    fleet.bindings.write_text(bindings([TERMINAL]))
    known = ids(fleet.config.registry, ["message-log"])["message-log"]
    poison = {
        "EMPTY": [None, b""],
        "OVERSIZE": [b"x" * 300_000],
        "UNKNOWN_TYPE": [b'{"device_no":"0102030405","type":"selfie","d":{}}'],
        "INVALID_JSON": [b"\x01not json at all", b"[1, 2]"],
        "UNKNOWN_SCHEMA_ID": [framed(0, b"abc"), framed(987_654, b"abc")],
        "BAD_FRAMING": [b"\0\0\0"],
        "BAD_AVRO": [framed(known, b"\x02"), framed(known, b"\xff" * 40)],
    }
    good = [log(TERMINAL, n, START_MS + 60_000 * n, START_MS + 60_000 * n) for n in range(40)]
    records = [(KEY, value, START_MS) for values in poison.values() for value in values]
    mixed = [
        record
        for pair in zip(records, good, strict=False)
        for record in (pair[0], (KEY, pair[1], START_MS))
    ]
    send(fleet.config.kafka, "message-log", mixed)
    fleet.submit("convert")
    fleet.submit("aggregate")

    sent = [(kind, value or b"") for kind, values in poison.items() for value in values]

    def letters():
        rows = oracle.decoded(fleet.config.kafka, "dead-letters", "dead_letter")
        return sorted((row["error_type"], row["raw_value"]) for _, row in rows)

    until(lambda: len(letters()) >= len(sent), f"{len(sent)} dead letters")
    assert letters() == sorted(sent)
    until(lambda: fleet.committed(["vehicle-log"]) >= len(sent), "uploads behind the poison")
    fleet.reaches_the_minutes_of(fleet.batch())

    late = log(TERMINAL, 900, START_MS + 3_600_000, START_MS + 3_600_000)
    send(fleet.config.kafka, "message-log", [(KEY, late, START_MS)])
    until(lambda: fleet.committed(["vehicle-log"]) == len(sent) + 1, "what comes after")
    assert letters() == sorted(sent)
