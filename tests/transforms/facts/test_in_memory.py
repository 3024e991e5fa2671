"""The whole core on batches in memory gives the same facts as its steps by hand."""

from tests.support.uploads import (
    ALWAYS,
    HOUR,
    NOON,
    bindings_of,
    fix,
    gps,
    log,
    raw_batch,
    rows_of,
    run,
)
from transforms.decode.decoder import Decoder
from transforms.facts.in_memory import facts
from transforms.model.thresholds import Rules

OBJECTS = {
    "a": [log(seq=1, spd=5), log(seq=1, spd=5), b"{", gps([fix(1, 20), fix(0)], seq=2)],
    "b": [log(seq=1, received=NOON + HOUR, spd=5, bat=12), log(seq=3, device_no="9999")],
    "c": [b"", gps([fix(2, 9000), fix(1, 0)], seq=4)],
}


def test_facts_equal_those_of_the_steps_by_hand():
    expected = run(OBJECTS)
    batches = [raw_batch(messages, name) for name, messages in OBJECTS.items()]
    found = facts(batches, Decoder(), bindings_of(ALWAYS), Rules())
    rows = [row for parts in found.telemetry.values() for part in parts for row in rows_of(part)]
    rows.sort(key=lambda row: (row["object"], row["line"], row["sample_idx"]))
    assert rows == expected.telemetry
    assert rows_of(found.minutes) == expected.minutes
    assert rows_of(found.dead) == expected.dead
    assert (found.good, found.duplicate) == (expected.good, expected.duplicates) == (4, 2)


def test_no_messages_make_no_facts():
    found = facts([], Decoder(), bindings_of(ALWAYS), Rules())
    assert (found.good, found.duplicate, found.minutes.num_rows) == (0, 0, 0)
