"""Types of command line arguments: dates and times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import click


class Instant(click.ParamType[datetime]):
    """An ISO date or time, or `now`; a time without a zone is one of the fleet's zone."""

    name = "ISO"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if value == "now":
            return datetime.now(UTC)
        try:
            return value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no ISO time such as 2024-01-15T09:00+09:00", param, ctx)


class Day(click.DateTime):
    """An ISO date."""

    def __init__(self) -> None:
        super().__init__(["%Y-%m-%d"])

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "YYYY-MM-DD"


def zoned(moment: datetime | None, zone: str) -> datetime | None:
    """The instant in UTC; a time without a zone is taken to be in `zone`. None stays None."""
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))
    return aware.astimezone(UTC)
