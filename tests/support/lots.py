"""The lots of `make test`: what a test needs decides in which of them it runs."""

from __future__ import annotations

import pytest

LOTS = ("core", "servers", "cluster", "days")
"""Markers; a test without any of them belongs to the first."""
COLLECTED: pytest.StashKey[list[pytest.Item]] = pytest.StashKey()


def sort_into_lots(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what has no lot as `core`, and keep all tests for the test of this rule."""
    for item in items:
        if not lots_of(item):
            item.add_marker(LOTS[0])
    config.stash[COLLECTED] = list(items)


def lots_of(item: pytest.Item) -> list[str]:
    """The lots that a test is marked with: one, where all is well."""
    return [name for name in LOTS if item.get_closest_marker(name)]
