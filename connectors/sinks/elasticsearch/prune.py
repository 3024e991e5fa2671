"""Old daily indices, found by the date in their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from connectors.errors import DependencyFailed
from connectors.retries import with_retries
from connectors.sinks.elasticsearch.client import Connection, RequestRejected
from connectors.sinks.elasticsearch.documents import index_base
from connectors.sinks.tables import Table

DAY = "%Y.%m.%d"


def old(
    connection: Connection, tables: Sequence[Table], keep_days: int, today: date
) -> dict[str, date]:
    """Daily indices of these tables with a day more than `keep_days` before `today` (UTC), by
    name. Raises DependencyFailed."""
    first = today - timedelta(days=keep_days)
    found: dict[str, date] = {}
    for table in tables:
        base = index_base(connection.settings.index_prefix, table)
        path = f"/{base}-*?expand_wildcards=all&features=settings&filter_path=*.settings.index.uuid"
        for name in _asked(connection, "GET", path):
            day = day_of(base, name)
            if day is not None and day < first:
                found[name] = day
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def day_of(base: str, name: str) -> date | None:
    """The day of the daily index `base-YYYY.MM.DD`; None for any other name."""
    match = re.fullmatch(rf"{re.escape(base)}-(\d{{4}}\.\d\d\.\d\d)", name)
    try:
        return datetime.strptime(match[1], DAY).date() if match else None
    except ValueError:
        return None


def delete(connection: Connection, names: Sequence[str]) -> None:
    """Delete indices by their whole names; one that is gone already is no error. Raises
    DependencyFailed."""
    for name in names:
        _asked(connection, "DELETE", f"/{name}?ignore_unavailable=true")


def _asked(connection: Connection, method: str, path: str) -> dict[str, object]:
    try:
        answer = with_retries(connection.settings, lambda: connection.ask(method, path))
    except RequestRejected as error:
        raise DependencyFailed(f"{connection.shown}: {method} {path}: {error}") from None
    return dict(answer)
