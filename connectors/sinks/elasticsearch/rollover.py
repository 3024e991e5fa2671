"""Where rows lie when tables are kept in generations: one that is there already stays in the
generation it came to, any other goes to the newest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa

from connectors.errors import DependencyFailed
from connectors.retries import TransientError, with_retries
from connectors.sinks.elasticsearch.client import Connection, RequestRejected
from connectors.sinks.elasticsearch.documents import DAY_LENGTH, by_day, index_base, texts
from connectors.sinks.elasticsearch.rollover_indices import Generations, behind
from connectors.sinks.elasticsearch.templates import REFRESHED_EVERY_S
from connectors.sinks.tables import Table

MOST_ASKED = 5_000
"""Keys a search: at most twice as many answers, which is what an index gives at once."""
_FOUND = pl.Schema({"_id": pl.String(), "found": pl.String()})
_DATED = pl.concat_str("_id", pl.col("_index").str.tail(DAY_LENGTH), separator="-")


class Rollover:
    """Places of rows in a cluster, by what lay behind the alias of their table at the last `look`.

    The date is part of an `_id`, as it is part of the index where there is one a day: a row that
    moves to another date is another document. Days that still have an index keep their rows there.
    """

    def __init__(self, connection: Connection, now: Callable[[], datetime]) -> None:
        self._connection = connection
        self._now = now
        self._known: dict[str, Generations] = {}
        self._aged: dict[str, datetime] = {}
        """By alias, when the last of the older ones was first seen to be one."""

    def look(self, table: Table) -> None:
        """See which generations there are; what older ones have taken can be found afterwards, also
        what others, who took them for the newest, sent since. Nothing of ours may be on its way to
        them. Raises DependencyFailed."""
        base = index_base(self._connection.settings.index_prefix, table)
        with_retries(self._connection.settings, lambda: self._look(base))

    def newest(self, table: Table) -> str:
        """The index that takes new rows."""
        return self._of(table).write or ""

    def places(self, table: Table, rows: pa.Table) -> pl.DataFrame:
        """`_index` and `_id` of each row; those that lie in an older generation are found there by
        a search for each MOST_ASKED keys. Raises DependencyFailed."""
        known = self._of(table)
        own = self._unfound(table, rows, known)
        if not known.older:
            return own
        asked = own.filter(pl.col("_index") == known.write)["_id"].unique().to_frame()
        parts = [part["_id"] for part in asked.iter_slices(MOST_ASKED)]
        found = pl.concat([_FOUND.to_frame(), *(self._found(table, known, ids) for ids in parts)])
        both = own.join(found.unique("_id"), on="_id", how="left", maintain_order="left")
        return both.select(pl.coalesce("found", "_index").alias("_index"), "_id")

    def anew(self, table: Table, rows: pa.Table) -> pl.DataFrame:
        """As `places`, of rows whose index is gone: all in the newest."""
        return self._unfound(table, rows, replace(self._of(table), days=frozenset()))

    def _of(self, table: Table) -> Generations:
        return self._known[index_base(self._connection.settings.index_prefix, table)]

    def _look(self, base: str) -> None:
        found, known = behind(self._connection, base), self._known.get(base)
        if not found.write:
            raise DependencyFailed(
                f"{self._connection.shown}: {base} is no alias with a write index: make it with "
                "`odograph elasticsearch prepare`, as the job does when it starts"
            )
        if found.older - (known.older if known else set()):
            self._aged[base] = self._now()
        if found.older and self._now() - self._aged[base] <= self._settling:
            self._refresh(found)
        self._known[base] = found

    @property
    def _settling(self) -> timedelta:
        """How long after a rollover rows may still come into what was the newest before, of a
        request that is sent again and again, and until they are found without a refresh."""
        settings = self._connection.settings
        attempt_s = settings.request_timeout_s + settings.retry_backoff_max_ms / 1000
        return timedelta(seconds=(settings.max_retries + 1) * attempt_s + REFRESHED_EVERY_S)

    def _refresh(self, found: Generations) -> None:
        path = f"/{found.base}-*,-{found.write}/_refresh"
        shards = self._asked(path)["_shards"]
        if shards["failed"]:
            raise TransientError(f"{self._connection.shown}: {path}: {shards}")

    def _unfound(self, table: Table, rows: pa.Table, known: Generations) -> pl.DataFrame:
        frame = pl.from_arrow(texts(rows.select(_named_by(table))))
        assert isinstance(frame, pl.DataFrame)
        index, key = by_day(known.base, table)
        daily = pl.col("_index").is_in(list(known.days))
        return frame.select(index.alias("_index"), key.alias("_id")).select(
            pl.when(daily).then("_index").otherwise(pl.lit(known.write)).alias("_index"),
            pl.when(daily).then("_id").otherwise(_DATED).alias("_id"),
        )

    def _found(self, table: Table, known: Generations, ids: pl.Series) -> pl.DataFrame:
        """Which of these documents lie in which older generation. Their ids are made of columns
        again: to read an `_id` the store would unpack the whole document."""
        wanted = [{"terms": {"_index": sorted(known.older)}}, {"ids": {"values": ids.to_list()}}]
        names = _named_by(table)
        query = {
            "query": {"bool": {"filter": wanted}},
            "size": 2 * len(ids),
            "sort": "_doc",
            "stored_fields": "_none_",
            "docvalue_fields": names,
            "track_total_hits": False,
        }
        path = (
            f"/{known.base}-*/_search?allow_partial_search_results=false"
            "&filter_path=hits.hits._index,hits.hits.fields"
        )
        answer = with_retries(self._connection.settings, lambda: self._asked(path, query))
        hits = answer.get("hits", {}).get("hits", [])
        if not hits:
            return _FOUND.to_frame()
        columns = {name: [hit["fields"][name][0] for hit in hits] for name in names}
        frame = pl.DataFrame({**columns, "found": [hit["_index"] for hit in hits]})
        index, key = by_day(known.base, table)
        told = frame.select(index.alias("_index"), key.alias("_id"), "found")
        return told.select(_DATED.alias("_id"), "found")

    def _asked(self, path: str, body: Any = None) -> dict[str, Any]:
        try:
            return self._connection.ask("POST", path, body)
        except RequestRejected as error:
            raise TransientError(f"{self._connection.shown}: POST {path}: {error}") from None


def _named_by(table: Table) -> list[str]:
    """The columns that an `_id` is made of."""
    return list(dict.fromkeys([*table.key, table.time]))
