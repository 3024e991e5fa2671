"""Rows that were judged again, and what they take back of what was written before."""

from __future__ import annotations

from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from connectors.sinks.tables import JUDGED
from connectors.sinks.vehicle_state.arrays import PostgresArray, postgres_array
from connectors.sinks.vehicle_state.columns import Group, Kind
from connectors.sinks.vehicle_state.newest import present, texts
from connectors.sinks.vehicle_state.statements import forgotten, locked, superseded
from transforms.model.arrow_numpy import single


def take_back(
    connection: psycopg.Connection[Any], kind: Kind, rows: pa.Table, keys: list[str]
) -> None:
    """Forget groups that an upload set of which `rows` (one telemetry table's) know better: it
    belongs to another vehicle, or happened earlier, so that something else may be the newest.

    `keys` are the vehicles or terminals that will be changed in the same transaction; all are
    locked in the order in which every writer locks them.
    """
    rows = rows.filter(pc.greater_equal(rows["revision"], JUDGED))
    if not rows.num_rows:
        return
    groups = kind.groups(rows.schema)
    found = connection.execute(superseded(kind, groups), _uploads(kind, groups, rows)).fetchall()
    if not found:
        return
    by_name = {group.name: group for group in groups}
    connection.execute(locked(kind), ([*keys, *(key for key, *_ in found)],))
    for key, name, message_id, revision in found:
        connection.execute(forgotten(kind, by_name[name]), (key, message_id, revision))


def _uploads(kind: Kind, groups: tuple[Group, ...], rows: pa.Table) -> list[PostgresArray]:
    columns = {name: texts(rows[name]) for name in (kind.key, "device_no", "message_id")}
    looked = [pc.unique(columns[n]).drop_null() for n in dict.fromkeys(("device_no", kind.key))]
    event = single(rows["event_time"])
    columns["revision"] = single(rows["revision"])
    for group in groups:
        set_by = pa.array(present(group, rows))
        columns[group.name] = pc.if_else(set_by, event, pa.scalar(None, event.type))
    known = (
        pa.table(columns)
        .group_by([kind.key, "message_id"])
        .aggregate([(name, "max") for name in ("revision", *(group.name for group in groups))])
    )
    names = ("revision_max", *(f"{group.name}_max" for group in groups))
    arrays = [single(known[name]) for name in (kind.key, "message_id", *names)]
    return [postgres_array(array) for array in [*arrays, *looked]]
