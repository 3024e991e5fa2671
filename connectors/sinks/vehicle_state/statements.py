"""The SQL that brings rows of `columns.sent` into the tables of state."""

from __future__ import annotations

import pyarrow as pa

from connectors.sinks.vehicle_state.columns import ROW, Kind, StoredGroup, sent
from transforms.facts.vehicle_state import ORDER

_TYPES = {
    pa.string(): "text",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.bool_(): "boolean",
}


def upsert(kind: Kind, groups: tuple[StoredGroup, ...], ahead_s: float) -> str:
    """Insert what is new and change what is older, group by group; a row of which nothing is newer
    is left as it is. The parameters are the columns of `sent`, as arrays."""
    stored = [name for group in groups for name in _stored(group)]
    newer = ", ".join(f"{_newer(group, ahead_s)} AS {group.name}" for group in groups)
    worth = " OR ".join(_newer(group, ahead_s) for group in groups)
    values = ", ".join(
        f"CASE WHEN n.{group.name} THEN excluded.{name} ELSE s.{name} END"
        for group in groups
        for name in _stored(group)
    )
    return f"""
INSERT INTO {kind.table} AS s ({kind.key}, {", ".join(stored)}, last_received_time)
SELECT {kind.key}, {", ".join(_given(groups))}, last_received_time
FROM ({_incoming(kind, groups)}) i
ORDER BY {kind.key} COLLATE "C"
ON CONFLICT ({kind.key}) DO UPDATE SET
({", ".join(stored)}) = (SELECT {values} FROM (SELECT {newer} OFFSET 0) n),
last_received_time = {_last(ahead_s)}, updated_at = now()
WHERE {worth} OR {_last(ahead_s)} <> s.last_received_time
"""


def look(kind: Kind) -> str:
    """Read nothing of all columns, which fails where one is missing."""
    names = [name for group in kind.all_groups for name in _stored(group)]
    return f"SELECT {kind.key}, {', '.join(names)} FROM {kind.table} LIMIT 0"


def _stored(group: StoredGroup) -> tuple[str, ...]:
    return (*group.columns, group.event_time, group.received_time, group.row)


def _given(groups: tuple[StoredGroup, ...]) -> list[str]:
    return [
        f"CASE WHEN sets & {1 << bit} <> 0 THEN {name} END"
        for bit, group in enumerate(groups)
        for name in (*group.columns, "event_time", "received_time", "place")
    ]


def _incoming(kind: Kind, groups: tuple[StoredGroup, ...]) -> str:
    """The parameters as rows; OFFSET 0 has Postgres make each `place` once."""
    fields = sent(kind, groups)
    arrays = ", ".join(f"%s::{_TYPES.get(f.type, 'timestamptz')}[]" for f in fields)
    names = ", ".join(f'"{field.name}"' for field in fields)
    place = ", ".join(f'"{field.name}"' for field in ROW)
    return (
        f"SELECT *, ROW({place})::telemetry_row AS place "
        f"FROM unnest({arrays}) AS given ({names}) OFFSET 0"
    )


def _newer(group: StoredGroup, ahead_s: float) -> str:
    """Whether the incoming row replaces what is stored of a group, as vehicle_state.newer says."""
    event, row = group.event_time, group.row
    later = f"({_order('s', group)}) < ({_order('excluded', group)})"
    return f"""(excluded.{event} IS NOT NULL AND CASE
WHEN s.{event} IS NULL THEN true
WHEN (s.{row}).message_id = (excluded.{row}).message_id
THEN (s.{row}).revision < (excluded.{row}).revision
OR (s.{row}).revision = (excluded.{row}).revision AND {later}
ELSE s.{event} > {_ahead(ahead_s)} OR {later} END)"""


def _order(row: str, group: StoredGroup) -> str:
    """The columns of ORDER of a stored or an incoming row."""
    times = {"event_time": group.event_time, "received_time": group.received_time}
    return ", ".join(
        f"{row}.{times[name]}" if name in times else f"({row}.{group.row}).{name}" for name in ORDER
    )


def _last(ahead_s: float) -> str:
    return (
        f"CASE WHEN s.last_received_time > {_ahead(ahead_s)} THEN excluded.last_received_time "
        "ELSE greatest(s.last_received_time, excluded.last_received_time) END"
    )


def _ahead(ahead_s: float) -> str:
    return f"now() + interval '{ahead_s} seconds'"


def superseded(kind: Kind, groups: tuple[StoredGroup, ...]) -> str:
    """Find groups set by rows of uploads that a higher revision now puts earlier, or elsewhere, as
    vehicle_state.taken_back says.

    Parameters: the columns of vehicle_state.uploads as arrays; then the terminals, and the other
    keys, to look at. Rows: key, group, message id, revision.
    """
    times = ", ".join("%s::timestamptz[]" for _ in groups)
    names = ", ".join(group.name for group in groups)
    stamps = ", ".join(f"('{g.name}', s.{g.event_time}, s.{g.row})" for g in groups)
    now = " ".join(f"WHEN '{group.name}' THEN judged.{group.name}" for group in groups)
    near = "s.device_no = ANY(%s)"
    if kind.key != "device_no":
        near += f" OR s.{kind.key} = ANY(%s)"
    return f"""
WITH judged AS (
    SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[], {times})
    AS j (key, message_id, revision, {names})
), newest AS (SELECT message_id, max(revision) AS revision FROM judged GROUP BY 1)
SELECT s.{kind.key}, g.name, (g.place).message_id, newest.revision
FROM {kind.table} s
CROSS JOIN LATERAL (VALUES {stamps}) AS g (name, event_time, place)
JOIN newest ON newest.message_id = (g.place).message_id
    AND newest.revision > (g.place).revision
LEFT JOIN judged ON judged.message_id = (g.place).message_id AND judged.key = s.{kind.key}
WHERE ({near}) AND coalesce(CASE g.name {now} END < g.event_time, true)
"""


def locked(kind: Kind) -> str:
    """Lock rows by key, in the order in which all writers do."""
    return (
        f"SELECT FROM {kind.table} WHERE {kind.key} = ANY(%s) "
        f'ORDER BY {kind.key} COLLATE "C" FOR UPDATE'
    )


def forgotten(kind: Kind, group: StoredGroup) -> str:
    """Forget a group where an upload of a lower revision set it. Parameters: key, message id,
    revision. Who was seen last stays: by it `superseded` finds what else his uploads set."""
    names = _stored(group)[len(group.columns) if group.any_row else 0 :]
    nothing = ", ".join(f"{name} = NULL" for name in names)
    return (
        f"UPDATE {kind.table} SET {nothing}, updated_at = now() WHERE {kind.key} = %s "
        f"AND ({group.row}).message_id = %s AND ({group.row}).revision < %s"
    )
