"""Generations: indices of a table behind its alias, the newest of which takes new rows. Somebody
else rolls them over, such as a policy of the cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass

from connectors.errors import BadSettings, DependencyFailed
from connectors.retries import TransientError
from connectors.sinks.elasticsearch.client import Connection, RequestRejected
from connectors.sinks.elasticsearch.prune import day_of

DIGITS = 6


@dataclass(frozen=True)
class Generations:
    """What lies behind the alias `base`: `write` takes new rows, None where no index is said to;
    `older` are all others but `days`, the daily indices."""

    base: str
    write: str | None
    older: frozenset[str]
    days: frozenset[str]


def behind(connection: Connection, base: str) -> Generations:
    """What lies behind the alias now, of the indices whose names begin with it. Raises
    TransientError, DependencyFailed."""
    path = f"/{base}-*?features=aliases"
    try:
        found = connection.ask("GET", path)
    except RequestRejected as error:
        raise DependencyFailed(f"{connection.shown}: GET {path}: {error}") from None
    aliases = {name: one["aliases"][base] for name, one in found.items() if base in one["aliases"]}
    days = frozenset(name for name in aliases if day_of(base, name))
    writes = [name for name, alias in aliases.items() if alias.get("is_write_index")]
    return Generations(base, next(iter(writes), None), frozenset(aliases) - days - {*writes}, days)


def number_of(base: str, name: str) -> int | None:
    """The number of the generation `base-NNNNNN`; None for any other name."""
    match = re.fullmatch(rf"{re.escape(base)}-(\d{{{DIGITS}}})", name)
    return int(match[1]) if match else None


def begin(connection: Connection, base: str) -> None:
    """Make a generation that takes new rows, where there is none. Raises TransientError,
    DependencyFailed."""
    found = behind(connection, base)
    if found.write:
        return
    last = max((number_of(base, name) or 0 for name in found.older), default=0)
    name = f"{base}-{last + 1:0{DIGITS}}"
    try:
        connection.ask("PUT", f"/{name}", {"aliases": {base: {"is_write_index": True}}})
    except RequestRejected as error:
        if error.kind != "resource_already_exists_exception":
            raise DependencyFailed(
                f"{connection.shown}: PUT /{name}: {error}; the alias {base} must be free, or have "
                "only indices of ours"
            ) from None
    if not behind(connection, base).write:
        raise TransientError(
            f"{connection.shown}: {base} has no write index, though {name} is there: make it one "
            "(POST /_aliases, is_write_index), or delete it"
        )


def refuse(connection: Connection, base: str) -> None:
    """See that rows may go to daily indices. Raises TransientError, DependencyFailed; BadSettings
    where generations lie behind the alias, whose rows would then lie there twice."""
    found = behind(connection, base)
    names = sorted(name for name in {*found.older, found.write or ""} if number_of(base, name))
    if names:
        raise BadSettings(
            f"sinks.elasticsearch.index_by day: {connection.shown}: generations lie behind {base}, "
            f"such as {names[-1]}, and a row of theirs that is written again would lie twice: keep "
            "index_by: rollover, or give another index_prefix, or delete them and fill again with "
            "`odograph backfill`"
        )
