"""One document a vehicle, its newest state. It is read, unless this process saw it last, merged and
written on condition that nobody wrote it in between; who was beaten reads and merges again."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from connectors.errors import DependencyFailed
from connectors.retries import TransientError, with_retries
from connectors.sinks.elasticsearch.bulk import Delivery
from connectors.sinks.elasticsearch.client import Connection, RequestRejected
from connectors.sinks.elasticsearch.documents import LONGEST_ID, as_lines, json_of, texts
from connectors.sinks.elasticsearch.vehicle_cache import MARKS, VehicleCache
from connectors.sinks.elasticsearch.vehicle_documents import (
    GROUPS,
    KEY,
    documents,
    merged,
    newest,
    stored,
)
from connectors.sinks.tables import JUDGED
from transforms.facts.vehicle_state import standing, uploads
from transforms.model.arrow_numpy import plain_texts

LOG = logging.getLogger(__name__)
_READ = "_mget?filter_path=docs._source,docs._seq_no,docs._primary_term"
_SEARCH = "_search?filter_path=hits.hits._id&_source=false&ignore_unavailable=true"
MOST_LEFT = 10_000
"""Documents of one search; Elasticsearch gives no more."""
DOUBTED = 8
"""So many vehicles may be refused without a kept one before the index itself is doubted, in one
write or in several."""


def index_name(prefix: str) -> str:
    """The index of the vehicles."""
    return f"{prefix}vehicles"


@dataclass
class Doubt:
    """About the index: vehicles that were refused in writes since the last that kept one."""

    vehicles: set[str] = field(default_factory=set)


@dataclass
class Vehicles:
    """Documents of vehicles on their way; those of a time after `latest` (as documents have it)
    give way. `doubt` and `cache` are what earlier writes left. `size` bytes were sent, before
    compression; `retries` were repeats."""

    connection: Connection
    latest: str
    doubt: Doubt
    cache: VehicleCache
    size: int = 0
    retries: int = 0
    _judged: pa.Table | None = None
    _kept: int = 0
    _refused: dict[str, str] = field(default_factory=dict)

    def write(self, rows: pa.Table) -> None:
        """Take what rows of a telemetry table say of their vehicles; one whose id no document may
        have is left out, and one that the store refuses. Raises DependencyFailed, also where it
        refuses all of many."""
        rows = standing(rows)
        judged = rows.filter(pc.greater_equal(rows["revision"], JUDGED))
        states = newest(rows)
        able = states[KEY].str.len_bytes().is_between(1, LONGEST_ID)
        if not able.all():
            LOG.warning(
                "%s: %d vehicles have no state: their vehicle_id is empty or longer than the %d "
                "bytes an _id may have; correct their bindings",
                self.connection.shown,
                states.height - able.sum(),
                LONGEST_ID,
            )
            states = states.filter(able)
        if judged.num_rows:
            groups = [group for group in GROUPS if group.of(rows.schema)]
            self._judged = texts(uploads(KEY, judged, groups))
            states = pl.concat([states, self._left(judged, states[KEY])], how="diagonal")
        for part in states.iter_slices(self.connection.settings.batch_size):
            self._open = part
            with_retries(self.connection.settings, self._attempt, self._count_retry)
        self._judge()

    def _judge(self) -> None:
        """What is to be said of documents that were refused, and of the index."""
        if self._kept:
            self.doubt.vehicles.clear()
        else:
            self.doubt.vehicles.update(self._refused)
        if not self._refused:
            return
        index = index_name(self.connection.settings.index_prefix)
        kinds = Counter(self._refused.values()).most_common()
        told = ", ".join(f"{count} {kind}" for kind, count in kinds)
        words = f"{self.connection.shown}: {index}: {len(self._refused)} refused: {told}"
        if len(self.doubt.vehicles) >= DOUBTED:
            raise DependencyFailed(
                f"{words}; of {len(self.doubt.vehicles)} vehicles none was kept: see its mapping "
                "and which templates match its name; deleted, it is made again by the next write"
            )
        LOG.warning("%s; the state of these vehicles stays as it was", words)

    def _count_retry(self) -> None:
        self.retries += 1

    def _attempt(self) -> None:
        changed = merged(self._known(), self._open, self.latest, self._judged)
        if not changed.height:
            return
        delivery = Delivery(self.connection, self._lines(changed), marked=True)
        delivery.deliver()
        self.size += delivery.size
        self.retries += delivery.retries
        self._count(changed[KEY], delivery)
        self.cache.keep(_marked(changed, delivery))
        beaten = changed[sorted(delivery.conflicts)]
        self._open = self._open.join(beaten, on=KEY, how="semi")
        if beaten.height:
            self.cache.forget(beaten)
            raise TransientError(
                f"{self.connection.shown}: {beaten.height} vehicles are being changed"
            )

    def _count(self, vehicles: pl.Series, delivery: Delivery) -> None:
        """See what became of documents, without what reasons tell of their contents."""
        self._kept += len(vehicles) - len(delivery.refused) - len(delivery.conflicts)
        for place, reason in delivery.refused.items():
            self._refused[vehicles[place]] = reason.partition(": ")[0]

    def _known(self) -> pl.DataFrame:
        """The documents that there are, and what a conditional write needs."""
        known = self.cache.of(self._open)
        unknown = self._open.join(known, on=KEY, how="anti")
        if not unknown.height:
            return known
        read = self._read(unknown[KEY].to_list())
        self.cache.keep(read)
        return pl.concat([known, read.select(known.columns)])

    def _left(self, judged: pa.Table, vehicles: pl.Series) -> pl.DataFrame:
        """Other vehicles in which the terminals of these rows were seen last: what they set there
        may be taken back. A document is found a second after it was written."""
        index = index_name(self.connection.settings.index_prefix)
        terminals = pc.unique(plain_texts(judged["device_no"])).drop_null().to_pylist()
        others = {"must_not": {"ids": {"values": vehicles.to_list()}}}

        def search(some: list[str]) -> list[str]:
            query = {"bool": {"filter": {"terms": {"device_no": some}}, **others}}
            wanted = {"query": query, "size": MOST_LEFT}
            try:
                answer = self.connection.ask("POST", f"/{index}/{_SEARCH}", wanted)
            except RequestRejected as error:
                raise TransientError(f"{self.connection.shown}: {index}: {error}") from None
            return [hit["_id"] for hit in answer.get("hits", {}).get("hits", ())]

        settings = self.connection.settings
        found: set[str] = set()
        for start in range(0, len(terminals), settings.batch_size):
            some = partial(search, terminals[start : start + settings.batch_size])
            found.update(with_retries(settings, some, self._count_retry))
        return pl.DataFrame({KEY: sorted(found)}, schema={KEY: pl.String})

    def _read(self, vehicles: list[str]) -> pl.DataFrame:
        index = index_name(self.connection.settings.index_prefix)
        try:
            found = self.connection.ask("POST", f"/{index}/{_READ}", {"ids": vehicles})
        except RequestRejected as error:
            raise TransientError(f"{self.connection.shown}: {index}: {error}") from None
        hits = [
            {**hit["_source"], "seq_no": hit["_seq_no"], "term": hit["_primary_term"]}
            for hit in found.get("docs", ())
            if "_source" in hit
        ]
        return stored(hits, MARKS)

    def _lines(self, changed: pl.DataFrame) -> pa.LargeStringArray:
        index = pl.lit(index_name(self.connection.settings.index_prefix)).alias("_index")
        key = pl.col(KEY).alias("_id")
        fresh = pl.struct(index, key).struct.json_encode()
        marks = [
            pl.col(name).alias(f"if_{of}")
            for name, of in zip(MARKS, ("seq_no", "primary_term"), strict=True)
        ]
        again = pl.struct(index, key, *marks).struct.json_encode()
        action = (
            pl.when(pl.col("seq_no").is_null())
            .then(pl.concat_str(pl.lit('{"create":'), fresh, pl.lit("}\n")))
            .otherwise(pl.concat_str(pl.lit('{"index":'), again, pl.lit("}\n")))
        )
        changed = documents(changed)
        document = json_of([name for name in changed.columns if name not in MARKS], changed)
        return as_lines(changed.select(pl.concat_str(action, document, pl.lit("\n"))).to_series())


def _marked(written: pl.DataFrame, delivery: Delivery) -> pl.DataFrame:
    """Those documents that were taken, as they are now."""
    places, marks = list(delivery.marks), list(delivery.marks.values())
    now = pl.DataFrame(marks, schema=MARKS, orient="row")
    return written[places].with_columns(now)
