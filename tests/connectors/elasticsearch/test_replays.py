"""Whatever is written again, in whatever order and pieces, the store ends at the same."""

import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.connectors.elasticsearch.rows import GPS, oracle, row, table_of

ROWS = st.builds(
    dict,
    message_id=st.sampled_from("ab"),
    sample_idx=st.integers(0, 1),
    seconds=st.sampled_from([0, 43_200]),
    gone=st.booleans(),
)
NUMBERS = itertools.count(1)


def known(history):
    """What is known of the rows as time goes on: each time with a higher revision."""
    return [row(GPS, revision=number, **one) for number, one in enumerate(history, 1)]


@given(history=st.lists(ROWS, min_size=1, max_size=8), data=st.data())
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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
