"""Telemetry rows by hand, and the state that plain Python makes of them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pyarrow as pa

from connectors.sinks.tables import JUDGED, TELEMETRY
from connectors.sinks.vehicle_state.columns import KINDS
from connectors.sinks.vehicle_state.settings import StateSettings
from connectors.sinks.vehicle_state.sink import StateStore

NOON_MS = 1_705_320_000_000
SOON = {"max_retries": 30, "retry_backoff_ms": 50, "retry_backoff_max_ms": 500}
"""Patience that lasts for a test."""


def store(database, **given) -> StateStore:
    """A sink on a database of its own."""
    return StateStore(StateSettings(**SOON | given), database.settings())


def row(event_s=0, vehicle_id="V1", device_no="0001", *, received_s=None, **given) -> dict:
    """A row whose times are seconds after noon; its place follows from them."""
    received = event_s if received_s is None else received_s
    values = {
        "message_id": f"{device_no}-{received}-{event_s}",
        "sample_idx": 0,
        "device_no": device_no,
        "vehicle_id": vehicle_id,
        "event_time": moment(event_s),
        "received_time": moment(received),
        "time_source": "DEVICE",
        "quality_flags": [],
        "binding_status": "OK",
        "topic": "message-log",
        "partition": 0,
        "offset": round(received * 1000),
        "line": 0,
        "device_gen": "STS",
        "revision": 1,
        "gone": False,
    }
    return values | given


def moment(seconds) -> datetime:
    """So many seconds after noon, or before."""
    return datetime.fromtimestamp(NOON_MS / 1000 + seconds, UTC)


def table(name, rows) -> pa.Table:
    """Rows as a store gets them."""
    schema = TELEMETRY[name].revised
    lists = {f.name: [] for f in schema if pa.types.is_list(f.type)}
    return pa.Table.from_pylist([lists | one for one in rows], schema=schema)


def write(sink, name, *rows):
    """Write rows of one table; what became of them."""
    return sink.write(TELEMETRY[name], table(name, rows))


def judged(known=1) -> int:
    """The revision of a row that was judged by more than itself."""
    return JUDGED + known


def state(database, kind) -> dict[str, dict]:
    """What the database says, by vehicle or terminal; a group's row as its attributes."""
    names = [kind.key, "last_received_time"]
    for group in kind.all_groups:
        names += [*group.columns, group.event_time, group.received_time, f"{group.row}::text"]
    found = database.run(f"SELECT {', '.join(names)} FROM {kind.table}")
    names = [name.removesuffix("::text") for name in names]
    return {one[0]: dict(zip(names, one, strict=True)) for one in found}


def oracle(tables, kind) -> dict[str, dict]:
    """The same from all rows at once: `tables` are pairs of a table's name and its rows."""
    rows = [(name, one) for name, several in tables for one in several if not one["gone"]]
    best = {}
    for _, one in rows:
        best[one["message_id"]] = max(best.get(one["message_id"], 0), one["revision"])
    rows = [(name, one) for name, one in rows if one["revision"] == best[one["message_id"]]]
    found = {}
    for key in {one[kind.key] for _, one in rows} - {None}:
        own = [(name, one) for name, one in rows if one[kind.key] == key]
        found[key] = _entity(kind, key, own)
    return found


def _entity(kind, key, rows) -> dict:
    made = {
        kind.key: key,
        "last_received_time": max(one["received_time"] for _, one in rows),
    }
    for group in kind.all_groups:
        able = [one for name, one in rows if _can_set(group, name, one)]
        newest = max(able, key=_age, default=None)
        values = [None] * len(group.columns) if newest is None else map(newest.get, group.columns)
        made |= dict(zip(group.columns, values, strict=True))
        made[group.event_time] = newest and newest["event_time"]
        made[group.received_time] = newest and newest["received_time"]
        made[group.row] = newest and _place(newest)
    return made


def _can_set(group, name, one) -> bool:
    if group.any_row:
        return True
    if group.name == "position":
        located = value_of(one, "lat_deg") is not None and value_of(one, "lon_deg") is not None
        return located and "GPS_JUMP" not in one["quality_flags"]
    return any(value_of(one, column) is not None for column in group.columns)


def value_of(one, column):
    """What a row has in a column, None for a number that is none."""
    value = one.get(column)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _age(one) -> tuple:
    return (one["event_time"], one["received_time"], one["message_id"].encode(), one["sample_idx"])


def _place(one) -> str:
    names = ("topic", "partition", "offset", "sample_idx", "revision", "message_id")
    return "(" + ",".join(str(one[name]) for name in names) + ")"


def same(database, tables) -> None:
    """Assert that the database has what plain Python makes of the rows."""
    for kind in KINDS:
        assert state(database, kind) == oracle(tables, kind)
