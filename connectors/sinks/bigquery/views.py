"""What holds now, of all that was ever written: SQL over a table of revised rows."""

from __future__ import annotations

import pyarrow as pa

from connectors.sinks.bigquery.schema import DATE, sent_schema
from connectors.sinks.tables import GONE, REVISION, Table

_PLACE = ("received_time", "topic", "partition", "offset", "object", "line")


def latest_name(table: Table) -> str:
    """Name of the view of what holds now."""
    return f"{table.name}_latest"


def latest(table: Table, place: str) -> str:
    """One row a date and key: of the highest revision, where that is not gone. A filter on
    `event_date` reaches the table through it, so that other dates are not read; `place` is the
    table's project.dataset.table."""
    columns = [name for name in sent_schema(table).names if name != GONE.name]
    listed = ",\n  ".join(f"`{name}`" for name in columns)
    return f"SELECT\n  {listed}\nFROM (\n{_newest(table, place)}\n)\nWHERE NOT `{GONE.name}`"


def compacted(table: Table, place: str) -> str:
    """A statement that leaves of each key of the date `@day` its newest row, gone ones too: an
    older revision that comes again must not bring them back. What others append meanwhile stays.
    """
    columns = ", ".join(f"`{name}`" for name in sent_schema(table).names)
    newest = _newest(table, place, f"`{DATE.name}` = @day")
    return (
        f"MERGE `{place}` AS kept USING (\n{newest}\n) AS newest ON FALSE\n"
        f"WHEN NOT MATCHED BY SOURCE AND kept.`{DATE.name}` = @day THEN DELETE\n"
        f"WHEN NOT MATCHED BY TARGET THEN INSERT ({columns}) VALUES ({columns})"
    )


def _newest(table: Table, place: str, condition: str = "TRUE") -> str:
    by = ", ".join(f"`{name}`" for name in (DATE.name, *table.key))
    order = ", ".join(f"`{name}`" for name in _ties(table))
    columns = ", ".join(f"`{name}`" for name in sent_schema(table).names)
    return (
        f"SELECT {columns} FROM `{place}` WHERE {condition}\n"
        f"QUALIFY ROW_NUMBER() OVER (\n"
        f"  PARTITION BY {by}\n"
        f"  ORDER BY `{REVISION.name}` DESC, {order}\n) = 1"
    )


def _ties(table: Table) -> list[str]:
    """What decides between rows of one key and revision: where they came from, or, in a table that
    does not say, everything."""
    names = table.columns.names
    if "topic" in names:
        return [GONE.name, *(name for name in _PLACE if name in names)]
    decided = {*table.key, REVISION.name, DATE.name}
    return [
        field.name
        for field in sent_schema(table)
        if field.name not in decided and not pa.types.is_list(field.type)
    ]
