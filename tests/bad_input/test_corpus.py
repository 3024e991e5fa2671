"""The corpus says of itself what it claims to be; a second reader of JSON agrees with it."""

import json

import pytest

from tests.bad_input import json_texts
from tests.bad_input.case import DEAD, FACT
from tests.bad_input.corpus import SIZE, hostile_messages

DEEPEST = 16


def strict(value):
    """Python's JSON, without its extensions, for messages of harmless depth."""

    def once(pairs):
        if len(dict(pairs)) != len(pairs):
            raise ValueError("key twice")
        return dict(pairs)

    def constant(text):
        raise ValueError(text)

    def integer(digits):
        return int(digits) if len(digits) < 50 else float(digits)

    text = value.decode("utf-8")
    return json.loads(text, object_pairs_hook=once, parse_constant=constant, parse_int=integer)


def readable(value):
    try:
        return isinstance(strict(value), dict)
    except ValueError:
        return False


def test_it_is_a_thousand_messages():
    assert len(hostile_messages()) == SIZE


def test_it_is_always_the_same():
    again = hostile_messages.__wrapped__()
    assert again == hostile_messages()


def test_every_case_has_a_name_of_its_own():
    names = [case.name for case in hostile_messages()]
    assert len(set(names)) == len(names)


def test_a_fact_is_a_copy_of_no_other_message():
    kept = [case.value for case in hostile_messages() if case.expect != DEAD]
    assert len(set(kept)) == len(kept)


def test_lines_hold_no_line_end():
    assert [c.name for c in hostile_messages() if not c.record and b"\n" in c.raw] == []


def test_every_dead_letter_has_a_reason_that_the_schema_knows():
    from schemas import load

    known = set(load("dead_letter")["error_type"].doc.split(" | "))
    used = {error for case in hostile_messages() for error in case.errors}
    assert used <= known


@pytest.mark.parametrize(
    ("texts", "accepted"),
    [
        (json_texts.ACCEPTED, True),
        (json_texts.UP_TO_THE_READER, True),
        (json_texts.REFUSED, False),
        (json_texts.REPEATED_KEYS, False),
    ],
)
def test_a_second_reader_agrees_on_the_texts(texts, accepted):
    wrong = [name for name, text in texts.items() if readable(b'{"a":' + text + b"}") != accepted]
    assert wrong == []


def test_a_second_reader_agrees_on_json_facts_and_broken_json():
    wrong = []
    for case in hostile_messages():
        if case.raw[:1] in (b"$", b"\0") or case.name.startswith("deep"):
            continue
        if case.expect == FACT and not readable(case.raw):
            wrong.append(case.name)
        broken = {"INVALID_JSON", "TRUNCATED_JSON", "DUPLICATE_KEY", "BAD_ENCODING"}
        if case.expect == DEAD and case.errors and case.errors <= broken and readable(case.raw):
            wrong.append(case.name)
    assert wrong == []
