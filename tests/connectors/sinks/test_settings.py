"""Settings of stores say what they do, and nothing that has no effect."""

import pytest
from pydantic import ValidationError

from connectors.lake.settings import LakeSettings
from connectors.sinks.vehicle_state.settings import StateSettings


@pytest.mark.parametrize("settings", [LakeSettings, StateSettings])
def test_a_store_that_writes_one_thing_at_a_time_has_no_number_of_requests(settings):
    with pytest.raises(ValidationError, match="max_in_flight_requests"):
        settings(max_in_flight_requests=1)


@pytest.mark.parametrize("name", ["ahead_s", "statement_timeout_s"])
@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), 1e14])
def test_no_span_is_taken_that_a_database_has_no_word_for(name, seconds):
    with pytest.raises(ValidationError, match=name):
        StateSettings(**{name: seconds})
