"""Rows of facts for tests, and what must hold of them: a model of the `_latest` views."""

from __future__ import annotations

import datetime as dt
import random

import pyarrow as pa

from connectors.sinks.tables import TELEMETRY

NOON = dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC)
GPS = TELEMETRY["gps"]


def row(table, number=0, seed=0, **given):
    """A row of `table.revised` with something in every column; `number` tells rows apart."""
    chance = random.Random(f"{table.name}-{number}-{seed}")
    made = {field.name: _value(field.type, field.name, chance) for field in table.revised}
    made |= {name: _key(table, name, number) for name in table.key}
    made |= {table.time: NOON + dt.timedelta(minutes=number % 600), "revision": 0, "gone": False}
    return made | given


def rows_of(table, *given):
    """Those rows as a table of `table.revised`."""
    return pa.Table.from_pylist(list(given), schema=table.revised)


def many(table, count, start=0, **given):
    """That many rows with different keys."""
    return rows_of(table, *(row(table, start + number, **given) for number in range(count)))


def latest(table, written):
    """What `<table>_latest` must hold after all these rows (as dicts), by date and key."""
    groups = {}
    for one in written:
        groups.setdefault(part(table, one), []).append(one)
    newest = {key: min(group, key=_rank) for key, group in groups.items()}
    return {key: one for key, one in newest.items() if not one["gone"]}


def part(table, one):
    """The date and key of a row."""
    return (one[table.time].date(), *(one[name] for name in table.key))


def _rank(one):
    place = [one[name] for name in ("received_time", "topic", "partition", "offset", "line")]
    return (-one["revision"], one["gone"], *place)


def _key(table, name, number):
    kind = table.columns.field(name).type
    if pa.types.is_string(kind):
        return f"{name}-{number}"
    return NOON + dt.timedelta(minutes=number) if pa.types.is_timestamp(kind) else number % 60


def _value(kind, name, chance):
    if pa.types.is_map(kind):
        return [(f"{name}-{n}", str(chance.random())) for n in range(chance.randrange(3))]
    if pa.types.is_list(kind):
        return [_value(kind.value_type, name, chance) for _ in range(chance.randrange(4))]
    if pa.types.is_timestamp(kind):
        return NOON + dt.timedelta(milliseconds=chance.randrange(10**6))
    if pa.types.is_boolean(kind):
        return chance.random() < 0.5
    if pa.types.is_integer(kind):
        return chance.randrange(2**31)
    if pa.types.is_floating(kind):
        return chance.randrange(-(2**20), 2**20) / 1024
    return f"{name} ü {chance.randrange(1000)}"
