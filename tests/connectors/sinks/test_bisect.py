"""Whatever a store refuses, each row is kept or named once, unless the store itself is at fault."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.sinks.bisect import ENOUGH, IN_VAIN, Bisect, Doubt, NoneKept


class Store:
    """Refuses a request as a whole where one of its rows is bad."""

    def __init__(self, bad=()):
        self.bad, self.kept, self.named, self.requests = set(bad), [], [], 0

    def write(self, parts, doubt=None):
        """Write rows by their numbers."""
        waiting = Bisect(parts, doubt)
        for part in waiting:
            self.requests += 1
            numbers = [int(number) for number in part]
            if self.bad.isdisjoint(numbers):
                self.kept += numbers
                waiting.kept += len(numbers)
            elif not waiting.refused(part):
                self.named += numbers
        return waiting


def parts_of(count, size):
    """Row numbers in parts."""
    return [range(count)[start : start + size] for start in range(0, count, size)]


BAD = st.sets(st.integers(0, 99))


@given(bad=BAD, count=st.integers(0, 100), size=st.integers(1, 100))
def test_what_is_kept_and_what_is_named_are_what_was_given(bad, count, size):
    store = Store(bad)
    store.write(parts_of(count, size))
    assert sorted(store.kept + store.named) == list(range(count))
    assert set(store.named) == bad & set(range(count))


@given(bad=BAD, count=st.integers(0, 100), size=st.integers(1, 100), before=st.integers(0, 20))
def test_so_it_is_where_the_store_is_doubted_but_kept_a_row(bad, count, size, before):
    store = Store(bad)
    try:
        store.write(parts_of(count, size), Doubt(before))
    except NoneKept as error:
        assert store.kept == []
        assert error.rows >= ENOUGH
    else:
        assert sorted(store.kept + store.named) == list(range(count))
        assert set(store.named) == bad & set(range(count))


@given(bad=BAD)
def test_a_bad_row_costs_twice_the_requests_of_a_search(bad):
    store = Store(bad)
    store.write(parts_of(128, 128))
    assert store.requests <= 1 + 2 * 7 * len(bad)


@pytest.mark.parametrize("first", [0, 470, 940])
def test_good_rows_are_found_wherever_bad_ones_lie(first):
    store = Store(range(first, first + 60))
    store.write(parts_of(1000, 1000), Doubt())
    assert (len(store.kept), len(store.named)) == (940, 60)


def test_a_store_that_refuses_everything_is_doubted_before_all_rows_are_named():
    store = Store(range(10_000))
    with pytest.raises(NoneKept) as error:
        store.write(parts_of(10_000, 10_000), Doubt())
    assert ENOUGH <= error.value.rows <= ENOUGH + IN_VAIN
    assert store.requests < 100


def test_few_rows_that_are_refused_are_no_doubt_until_there_were_several_writes():
    doubt = Doubt()
    for _ in range(ENOUGH - 1):
        Store({0}).write([range(1)], doubt)
    assert doubt.rows == ENOUGH - 1
    with pytest.raises(NoneKept):
        Store({0}).write([range(1)], doubt)


def test_a_request_without_an_answer_may_still_keep_a_row():
    waiting = Bisect(parts_of(1, 1), Doubt(ENOUGH))
    assert not waiting.refused(waiting.take(), unanswered=True)
    with pytest.raises(NoneKept):
        waiting.refused(range(1))


def test_halves_come_first_and_in_order_and_a_single_row_has_none():
    waiting = Bisect([range(3), range(9, 10)])
    first = waiting.take()
    assert waiting.halve(first)
    assert [list(part) for part in waiting] == [[0], [1, 2], [9]]
    assert not waiting.halve(range(1))
    assert (waiting.halved, bool(waiting)) == (1, False)


def test_parts_are_made_when_it_is_their_turn():
    made = []

    def parts():
        for number in range(3):
            made.append(number)
            yield range(number, number + 1)

    waiting = Bisect(parts())
    assert made == []
    waiting.take() if waiting else None
    assert made == [0]


@pytest.mark.parametrize("rows", [np.arange(5), pa.table({"n": range(5)}), range(5)])
def test_whatever_can_be_sliced_can_be_halved(rows):
    waiting = Bisect([rows])
    assert waiting.halve(next(iter(waiting)))
    assert [len(part) for part in waiting] == [2, 3]
