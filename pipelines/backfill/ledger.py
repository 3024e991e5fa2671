"""The ledger of a backfill: what became of all uploads, by topic, partition and arrival hour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipelines.backfill.steps import COUNTS, SettledObject

COUNTED = ("good", "dead", "duplicate", "late", "filtered")

Sums = dict[str, Any]
"""Counts that can still grow: objects `read` and settled `again`, those `broken`, and uploads
`by` (topic, partition, hour)."""


def nothing() -> Sums:
    """Before the first object."""
    return {"read": 0, "again": 0, "broken": [], "by": {}}


def add(sums: Sums, done: SettledObject) -> Sums:
    """`sums` with one more object. Objects of earlier runs are not counted a second time."""
    if done.broken:
        sums["broken"].append(done.broken)
    if not done.own:
        sums["again"] += 1
        return sums
    sums["read"] += 1
    _grow(sums["by"], done.key, done.counts)
    return sums


def join(parts: Iterable[Sums]) -> Sums:
    """All of them together."""
    joined = nothing()
    for part in parts:
        joined["read"] += part["read"]
        joined["again"] += part["again"]
        joined["broken"] += part["broken"]
        for key, counts in part["by"].items():
            _grow(joined["by"], key, counts)
    return joined


def ledger(sums: Sums) -> dict[str, Any]:
    """The ledger as it is shown and stored, but for the vehicle minutes."""
    totals = dict.fromkeys(COUNTS, 0)
    by = []
    for (topic, partition, hour), counts in sorted(sums["by"].items()):
        by.append({"topic": topic, "partition": partition, "hour": hour, **counts})
        for name, count in counts.items():
            totals[name] += count
    broken = [{"name": name, "reason": why} for name, why in sorted(sums["broken"])]
    objects = {"read": sums["read"], "again": sums["again"], "broken": broken}
    return {"totals": totals, "objects": objects, "by": by}


def balances(ledger: dict[str, Any]) -> bool:
    """in = good + dead + duplicate + late + filtered, in all and in every line."""
    lines = [ledger["totals"], *ledger["by"]]
    return all(line["in"] == sum(line[name] for name in COUNTED) for line in lines)


def _grow(by: dict[Any, dict[str, int]], key: Any, counts: dict[str, int]) -> None:
    line = by.setdefault(key, dict.fromkeys(COUNTS, 0))
    for name, count in counts.items():
        line[name] += count
