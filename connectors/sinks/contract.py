"""What every store is to a job: it takes rows by key, and takes them again without harm."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import orjson
import pyarrow as pa
import tenacity

from connectors.settings import DeliverySettings, DependencyFailed
from connectors.sinks.tables import Table
from transforms.model.dead_letters import DEAD_SCHEMA, MESSAGE_LIMIT, VERSION, all_dead

Done = TypeVar("Done")


@dataclass(frozen=True)
class Written:
    """What became of rows: `rows` the store has (already or now), `size` bytes sent for them,
    `retries` requests that were repeated, `refused` (schema `dead_letter`) those it will never
    take. `rows + refused.num_rows` is what was given."""

    rows: int
    size: int
    retries: int
    refused: pa.RecordBatch


def together(parts: Iterable[Written]) -> Written:
    """What became of rows that were written in parts."""
    done = list(parts)
    return Written(
        sum(one.rows for one in done),
        sum(one.size for one in done),
        sum(one.retries for one in done),
        all_dead(one.refused for one in done),
    )


class Sink(Protocol):
    """A store of tables."""

    def prepare(self, tables: Sequence[Table]) -> None:
        """Make what the tables need in the store, add columns that are new; safe to repeat and to
        do at the same time elsewhere. Raises DependencyFailed."""

    def write(self, table: Table, rows: pa.Table) -> Written:
        """Write rows of `table.revised`; on return the store has them for good or refused them.
        Raises DependencyFailed when it stays away, and nothing is known of the rows then: writing
        them again is right."""

    def close(self) -> None:
        """Let go of connections."""


class Passing(Exception):
    """A store said no for now: names the store, the request and its answer."""


def patiently(
    settings: DeliverySettings, attempt: Callable[[], Done], told: Callable[[], None] | None = None
) -> Done:
    """Call `attempt` until it raises Passing no more; `told` is called before every wait. Raises
    DependencyFailed with the last reason when patience ends."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Passing),
        wait=tenacity.wait_random_exponential(
            multiplier=settings.retry_backoff_ms / 1000, max=settings.retry_backoff_max_ms / 1000
        ),
        stop=tenacity.stop_after_attempt(settings.max_retries + 1),
        before_sleep=(lambda _: told()) if told else None,
        reraise=True,
    )
    try:
        return retrying(attempt)
    except Passing as error:
        raise DependencyFailed(f"gave up after {settings.max_retries} retries: {error}") from error


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
