"""Old days are found by the date in an index's whole name, and nothing else is touched."""

from datetime import date

import pytest

from connectors.sinks.elasticsearch.client import connect
from connectors.sinks.elasticsearch.prune import day_of, delete, old
from connectors.sinks.tables import TABLES
from tests.connectors.sinks.elasticsearch.rows import GPS, row, table_of

pytestmark = pytest.mark.servers

TODAY = date(2026, 3, 10)


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("p-telemetry-gps-2026.03.01", date(2026, 3, 1)),
        ("p-telemetry-gps-2026.02.30", None),
        ("p-telemetry-gps-2026.03.01-restored", None),
        ("p-telemetry-gps-2026.3.1", None),
        ("p-telemetry-gps-000001", None),
        ("other-p-telemetry-gps-2026.03.01", None),
        ("p-telemetry-gps-", None),
    ],
)
def test_the_day_of_a_name(name, day):
    assert day_of("p-telemetry-gps", name) == day


def test_only_days_before_those_that_are_kept_go(store):
    sink = store.sink(searchable_days=3650)
    days = [0, 1, 2, 3, 400]
    rows = [row(GPS, f"m{day}", seconds=-86_400 * day) for day in days]
    sink.write(GPS, table_of(GPS, rows))
    others = ["telemetry-gps-2020.01.01-copy", "telemetry-gpsx-2020.01.01", "mine-2020.01.01"]
    for name in others:
        store.ask("PUT", name)
    connection = connect(store.settings())
    found = old(connection, list(TABLES.values()), 2, TODAY)
    assert list(found) == [
        f"{store.prefix}telemetry-gps-2025.02.03",
        f"{store.prefix}telemetry-gps-2026.03.07",
    ]
    delete(connection, list(found))
    delete(connection, list(found))
    left = set(store.ask("GET", "*?filter_path=*.settings.index.uuid"))
    kept = [f"telemetry-gps-2026.03.{day:02}" for day in (10, 9, 8)]
    assert left == {f"{store.prefix}{name}" for name in [*kept, *others, "vehicles"]}
    assert old(connection, list(TABLES.values()), 2, TODAY) == {}
