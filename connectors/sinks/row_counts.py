"""What stores hold, by table or kind of thing: for a look, not for a job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from connectors.errors import DependencyFailed
from connectors.lake.read import TABLES as LAKE_TABLES
from connectors.lake.read import parts
from connectors.operations_db.settings import DatabaseSettings
from connectors.retries import with_retries
from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.elasticsearch.settings import ElasticsearchSettings
from connectors.sinks.tables import TABLES
from connectors.sinks.vehicle_state.settings import StateSettings
from connectors.storage.folder import PARALLEL, Folder, failing

STATES = ("vehicle_state", "device_state")


def archive_records(archive: Folder) -> Counter[str]:
    """Records by device topic. Raises DependencyFailed."""
    names = [name for name, _ in archive.child("topics").names() if name.endswith(".parquet")]
    return _rows(archive, {f"topics/{name}": name.partition("/")[0] for name in names})


def lake_rows(lake: Folder) -> Counter[str]:
    """Rows by table, where objects were merged and written again since a few too many. Raises
    DependencyFailed."""
    return _rows(lake, {part.name: table for table in LAKE_TABLES for part in parts(lake, table)})


def _rows(place: Folder, objects: dict[str, str]) -> Counter[str]:
    def rows(name: str) -> int:
        try:
            with (
                failing(f"read {place.uri}/{name}"),
                place.system.open_input_file(place.at(name)) as file,
            ):
                return int(pq.read_metadata(file).num_rows)
        except pa.ArrowInvalid as error:
            raise DependencyFailed(f"{place.uri}/{name} is no Parquet object: {error}") from error

    found: Counter[str] = Counter()
    with ThreadPoolExecutor(PARALLEL) as pool:
        for kind, count in zip(objects.values(), pool.map(rows, objects), strict=True):
            found[kind] += count
    return found


def bigquery_rows(settings: BigQuerySettings) -> Counter[str]:
    """Rows by view of what holds now. Raises BadSettings, DependencyFailed."""
    from connectors.sinks.bigquery.client import Rest
    from connectors.sinks.bigquery.errors import Missing
    from connectors.sinks.bigquery.views import latest_name

    rest = Rest(settings)
    found: Counter[str] = Counter()
    for name in map(latest_name, TABLES.values()):
        query = f"select count(*) from `{rest.dataset}.{name}`"
        try:
            job = rest.call(f"count {name}", rest.client.query, query, job_retry=None)
            rows = rest.call(f"count {name}", job.result, job_retry=None)
        except Missing as error:
            raise DependencyFailed(f"{error}; run `odograph bigquery prepare`") from error
        found[name] = int(next(iter(rows))[0])
    rest.close()
    return found


def elasticsearch_documents(settings: ElasticsearchSettings) -> Counter[str]:
    """Documents by kind of index, all days together. Raises DependencyFailed."""
    from connectors.sinks.elasticsearch.client import connect
    from connectors.sinks.elasticsearch.documents import index_base
    from connectors.sinks.elasticsearch.vehicle_writes import index_name

    prefix = settings.index_prefix
    bases = {
        index_base(prefix, table): f"{index_base(prefix, table)}-*" for table in TABLES.values()
    }
    connection = connect(settings)

    def count(path: str) -> int:
        return int(connection.ask("GET", path)["count"])

    try:
        found: Counter[str] = Counter()
        for base, pattern in {**bases, index_name(prefix): index_name(prefix)}.items():
            path = f"/{pattern}/_count?ignore_unavailable=true"
            found[base] = with_retries(settings, partial(count, path))
        return found
    finally:
        connection.close()


def state_rows(settings: StateSettings, database: DatabaseSettings) -> Counter[str]:
    """Rows of the tables of state. Raises DependencyFailed."""
    from connectors.sinks.vehicle_state.client import StateConnection

    connection = StateConnection(settings, database)
    try:
        return Counter({table: connection.transact(_counting(table)) for table in STATES})
    finally:
        connection.close()


def _counting(table: str) -> Callable[[psycopg.Connection[Any]], int]:
    query = sql.SQL("select count(*) from {}").format(sql.Identifier(table))

    def count(connection: psycopg.Connection[Any]) -> int:
        (rows,) = connection.execute(query).fetchone() or (0,)
        return int(rows)

    return count
