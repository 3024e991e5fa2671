"""Dead letters of rows that a store will never take."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa

from connectors.sinks.tables import Table
from transforms.model.dead_letters import DEAD_SCHEMA, MESSAGE_LIMIT, VERSION


def refused(store: str, table: Table, rows: pa.Table, reasons: Sequence[str]) -> pa.RecordBatch:
    """Dead letters of rows a store will never take, one reason a row. `raw_value` is the row as
    JSON; the id is a function of store, table and key, so that a replay writes the same."""
    letters = [
        _letter(store, table, row, reason)
        for row, reason in zip(rows.to_pylist(), reasons, strict=True)
    ]
    return pa.RecordBatch.from_pylist(letters, schema=DEAD_SCHEMA)


def _letter(store: str, table: Table, row: dict[str, Any], reason: str) -> dict[str, Any]:
    key = "|".join(str(row[name]) for name in table.key)
    told = orjson.dumps(row, default=_json)
    return {
        "dead_letter_id": hashlib.sha256(f"{store}|{table.name}|{key}".encode()).hexdigest()[:32],
        "source_topic": row.get("topic") or table.name,
        "source_partition": row.get("partition") or 0,
        "source_offset": row.get("offset"),
        "source_object": row.get("object"),
        "source_line": row.get("line"),
        "raw_value": told,
        "raw_size": len(told),
        "raw_headers": [],
        "device_no": row.get("device_no"),
        "message_type": table.name.removeprefix("telemetry_"),
        "stage": "SINK",
        "error_type": "REFUSED",
        "error_message": f"{store}: {reason}"[:MESSAGE_LIMIT],
        "received_time": row.get("received_time"),
        "attempt": 0,
        "retryable": False,
        "pipeline_version": VERSION,
    }


def _json(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
