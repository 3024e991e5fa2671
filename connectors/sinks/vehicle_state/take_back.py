"""Rows that were judged again, and what they take back of what was written before."""

from __future__ import annotations

from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from connectors.sinks.tables import JUDGED
from connectors.sinks.vehicle_state.arrays import PostgresArray, postgres_array
from connectors.sinks.vehicle_state.columns import Kind, StoredGroup
from connectors.sinks.vehicle_state.statements import forgotten, locked, superseded
from transforms.facts.vehicle_state import uploads
from transforms.model.arrow_numpy import plain_texts, single


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


def _uploads(kind: Kind, groups: tuple[StoredGroup, ...], rows: pa.Table) -> list[PostgresArray]:
    looked = [
        pc.unique(plain_texts(rows[name])).drop_null()
        for name in dict.fromkeys(("device_no", kind.key))
    ]
    arrays = [single(column) for column in uploads(kind.key, rows, groups).columns]
    return [postgres_array(array) for array in [*arrays, *looked]]
