"""Histories of rows: what is known of them, and later otherwise, for properties of any of them."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.connectors.sinks.elasticsearch.rows import GPS, row

ROWS = st.builds(
    dict,
    message_id=st.sampled_from("ab"),
    sample_idx=st.integers(0, 1),
    seconds=st.sampled_from([0, 43_200]),
    gone=st.booleans(),
)


def any_history(test):
    """Give a test some `history`, and `data` to draw more from."""
    few = settings(
        max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    return given(history=st.lists(ROWS, min_size=1, max_size=8), data=st.data())(few(test))


def known(history):
    """What is known of the rows as time goes on: each time with a higher revision."""
    return [row(GPS, revision=number, **one) for number, one in enumerate(history, 1)]
