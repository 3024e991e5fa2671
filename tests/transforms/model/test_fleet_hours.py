"""In which folder a fact lies: the calendar hour of the fleet's zone (M09)."""

import numpy as np
import pytest

from connectors.lake.names import hour_folder
from tests.support.uploads import at
from transforms.model.fleet_hours import local_hours

SEOUL = "Asia/Seoul"


def hour(text, zone=SEOUL):
    return int(local_hours(np.array([at(text)]), zone)[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-15T14:59:59.999", 2024011523),
        ("2024-01-15T15:00:00.000", 2024011600),
        ("2024-02-28T15:00:00", 2024022900),
        ("2023-12-31T15:00:00", 2024010100),
        ("2023-12-31T14:59:59.999", 2023123123),
    ],
)
def test_m09_the_day_and_hour_edge_is_that_of_seoul(text, expected):
    assert hour(text) == expected


@pytest.mark.parametrize(
    "day", ["2024-12-29", "2024-12-30", "2024-12-31", "2021-01-01", "2021-01-03"]
)
def test_m09_the_year_is_that_of_the_calendar_not_of_the_week(day):
    assert hour(f"{day}T12:00:00+09:00") == int(day.replace("-", "") + "12")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1987-05-09T16:59:59.999", 1987051001),
        ("1987-05-09T17:00:00", 1987051003),
        ("1987-07-15T03:00:00", 1987071513),
        ("1987-10-10T16:59:59.999", 1987101102),
        ("1987-10-10T17:00:00", 1987101102),
        ("1988-07-15T03:00:00", 1988071513),
        ("1989-07-15T03:00:00", 1989071512),
    ],
)
def test_m09_seoul_had_summer_time_in_1987_and_1988(text, expected):
    assert hour(text) == expected


def test_m09_other_zones_have_their_own_edges():
    assert hour("2024-03-10T09:59:59.999", "America/Los_Angeles") == 2024031001
    assert hour("2024-03-10T10:00:00", "America/Los_Angeles") == 2024031003
    assert hour("2024-01-15T18:14:59.999", "Asia/Kathmandu") == 2024011523
    assert hour("2024-01-15T18:15:00", "Asia/Kathmandu") == 2024011600


def test_m09_a_folder_names_date_and_hour():
    assert hour_folder(2024123003) == "date=2024-12-30/hour=03"
    assert hour_folder(99123103) == "date=0099-12-31/hour=03"
