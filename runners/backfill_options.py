"""The option that says where a backfill ends: until when, and in which stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import click

from runners.config import BadArguments
from runners.screen import Instant

LAKE = "lake"
STORES = (LAKE, "bigquery", "elasticsearch", "state")
Ends = datetime | tuple[str, ...]


class End(Instant):
    """An instant, or names of stores."""

    name = "ISO|STORE,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        words = tuple(word.strip() for word in str(value).split(","))
        if any(word in STORES for word in words):
            return words
        return super().convert(value, param, ctx)


def to_option(command: Callable[..., Any]) -> Any:
    """`--to`, once for a time and once for stores; gives `ends`."""
    text = "End of arrival, exclusive; or now. Or the stores to write to, such as lake,bigquery."
    return click.option("--to", "ends", type=End(), multiple=True, help=text)(command)


def sorted_out(ends: Iterable[Ends]) -> tuple[datetime | None, tuple[str, ...]]:
    """The time and the stores. Raises BadArguments where either is said twice."""
    times = [one for one in ends if isinstance(one, datetime)]
    stores = [one for one in ends if isinstance(one, tuple)]
    if len(times) > 1 or len(stores) > 1:
        raise BadArguments("--to is given twice: once for a time and once for stores is enough")
    return (times[0] if times else None), (stores[0] if stores else ())
