"""What is remembered of what was written."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from transforms.live.written_versions import CLEAR, WrittenVersions

START, SETTLED = 1_000_000, 1_000


def asked(written, *uploads):
    """Which of the uploads (terminal, id, mark, timestamp, told) are to be written."""
    columns = list(zip(*uploads, strict=True))
    changed = written.changed(
        pa.array(columns[0]),
        pa.array(columns[1]),
        np.array(columns[2]),
        np.array(columns[3]),
        np.array(columns[4]),
    )
    return [upload[1] for upload, yes in zip(uploads, changed, strict=True) if yes]


def test_what_differs_from_a_first_look_is_written_once():
    written = WrittenVersions(0, SETTLED)
    dossier = (("a", "1", 5, START, True), ("a", "2", CLEAR, START, True))
    assert asked(written, *dossier) == ["1"]
    assert asked(written, *dossier) == []


def test_another_mark_and_one_that_is_clear_again_are_written():
    written = WrittenVersions(0, SETTLED)
    assert asked(written, ("a", "1", 5, START, True), ("a", "2", 6, START, True)) == ["1", "2"]
    assert asked(written, ("a", "1", 7, START, True), ("a", "2", CLEAR, START, True)) == ["1", "2"]
    assert asked(written, ("a", "1", 7, START, True), ("a", "2", CLEAR, START, True)) == []


def test_of_a_terminal_not_remembered_all_from_before_the_start_is_written_that_others_judge():
    written = WrittenVersions(START, SETTLED)
    old, new, quiet = ("1", START - 1, True), ("2", START, True), ("3", START - 1, False)
    dossier = [("a", name, CLEAR, when, told) for name, when, told in (old, new, quiet)]
    assert asked(written, *dossier) == ["1"]
    assert asked(written, *dossier) == []


def test_a_mark_stays_once_its_neighbours_are_being_forgotten():
    written = WrittenVersions(0, SETTLED)
    assert asked(written, ("a", "1", 5, START, True)) == ["1"]
    newer = ("a", "2", CLEAR, START + SETTLED + 1, True)
    assert asked(written, ("a", "1", 6, START, True), newer) == []
    assert asked(written, ("a", "1", 5, START, True), newer) == []


def test_of_more_than_it_may_hold_the_terminals_judged_last_are_remembered():
    written = WrittenVersions(0, SETTLED, most=4)
    one, two, three = ((name, name, 5, START, True) for name in "abc")
    assert asked(written, one) == ["a"]
    assert asked(written, two) == ["b"]
    assert asked(written, one) == []
    assert asked(written, three) == ["c"]
    assert asked(written, one) == []
    assert asked(written, two) == ["b"]


def test_terminals_of_one_block_are_kept_apart():
    written = WrittenVersions(0, SETTLED)
    assert asked(written, ("b", "1", 5, START, True), ("a", "1", 6, START, True)) == ["1", "1"]
    assert asked(written, ("a", "1", 6, START, True), ("b", "1", 7, START, True)) == ["1"]
