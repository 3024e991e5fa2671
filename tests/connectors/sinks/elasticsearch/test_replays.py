"""Whatever is written again, in whatever order and pieces, the store ends at the same."""

import itertools

import pytest
from hypothesis import strategies as st

from tests.connectors.sinks.elasticsearch.histories import any_history, known
from tests.connectors.sinks.elasticsearch.rows import GPS, oracle, table_of

pytestmark = pytest.mark.servers

NUMBERS = itertools.count(1)


@any_history
def test_replays_in_any_order_converge(store, history, data):
    rows = known(history)
    order = data.draw(st.permutations(rows + rows[:2]))
    cut = data.draw(st.integers(0, len(order)))
    number = next(NUMBERS)
    for one in (*rows, *order):
        one["message_id"] = f"{number}-{one['message_id'].rpartition('-')[2]}"
    sink = store.sinks[0] if store.sinks else store.sink()
    for piece in (order[:cut], order[cut:]):
        sink.write(GPS, table_of(GPS, piece))
    held = {
        key: version for key, version in store.held(GPS).items() if key[1].startswith(f"{number}-")
    }
    assert held == oracle(table_of(GPS, rows))
