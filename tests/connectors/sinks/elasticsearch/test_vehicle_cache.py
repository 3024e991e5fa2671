"""What a sink remembers of documents is as it saw them last, and bounded."""

import polars as pl

from connectors.sinks.elasticsearch import vehicle_cache
from connectors.sinks.elasticsearch.vehicle_cache import MARKS, VehicleCache
from connectors.sinks.elasticsearch.vehicle_documents import KEY, stored


def seen(number, *vehicles):
    """Documents of vehicles under a sequence number."""
    return stored([{KEY: one, "seq_no": number, "term": 1} for one in vehicles], MARKS)


def numbers(held, *vehicles):
    """By vehicle that is remembered, the sequence number."""
    known = held.of(pl.DataFrame({KEY: vehicles}))
    return dict(known.select(KEY, "seq_no").iter_rows())


def test_the_last_sight_counts():
    held = VehicleCache()
    held.keep(seen(1, "a", "b"))
    held.keep(seen(2, "b", "c"))
    assert numbers(held, "a", "b", "d") == {"a": 1, "b": 2}


def test_what_another_changed_is_forgotten():
    held = VehicleCache()
    held.keep(seen(1, "a", "b"))
    held.forget(seen(1, "a"))
    assert numbers(held, "a", "b") == {"b": 1}


def test_vehicles_that_were_not_seen_for_longest_go_first(monkeypatch):
    monkeypatch.setattr(vehicle_cache, "HELD", 3)
    held = VehicleCache()
    for number, vehicles in enumerate(("ab", "c", "a", "d")):
        held.keep(seen(number, *vehicles))
    assert numbers(held, *"abcd") == {"c": 1, "a": 2, "d": 3}
