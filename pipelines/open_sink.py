"""The stores that facts are written to as rows, and how a job opens one.

A store plugs in here: `open_sink` knows its settings class and gives a `contract.Sink`.
"""

from __future__ import annotations

from connectors.archive.settings import ArchiveSettings
from connectors.errors import BadSettings
from connectors.lake.settings import LakeSettings
from connectors.operations_db.settings import DatabaseSettings
from connectors.retries import DeliverySettings
from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.contract import Sink
from connectors.sinks.elasticsearch.settings import ElasticsearchSettings
from connectors.sinks.tables import MINUTES, TELEMETRY, Table
from connectors.sinks.vehicle_state.settings import StateSettings
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings, named_folder


def open_sink(store: DeliverySettings | None, database: DatabaseSettings) -> Sink:
    """The store of rows that settings lead to; its client's library is imported here. Raises
    BadSettings where settings lack what the store needs, MissingSecret."""
    if isinstance(store, BigQuerySettings):
        from connectors.sinks.bigquery.sink import BigQuerySink

        return BigQuerySink(store)
    if isinstance(store, ElasticsearchSettings):
        from connectors.sinks.elasticsearch.sink import ElasticsearchSink

        return ElasticsearchSink(store)
    if isinstance(store, StateSettings):
        from connectors.sinks.vehicle_state.sink import StateStore

        return StateStore(store, database)
    raise BadSettings(f"{type(store).__name__} is no store of rows")


def tables_of(store: DeliverySettings | None) -> tuple[Table, ...]:
    """The tables a store keeps; the state of vehicles is made of telemetry alone."""
    telemetry = tuple(TELEMETRY.values())
    return telemetry if isinstance(store, StateSettings) else (*telemetry, MINUTES)


def check_store(
    name: str, store: DeliverySettings | None, database: DatabaseSettings, s3: S3Settings
) -> None:
    """Reach the store of the sink `name`, and make what it needs there. Raises BadSettings,
    MissingSecret, DependencyFailed."""
    if store is None:
        return
    if isinstance(store, ArchiveSettings | LakeSettings):
        place = named_folder(name, store.folder)
        folder(place, s3).reach()
        return
    sink = open_sink(store, database)
    try:
        sink.prepare(tables_of(store))
    finally:
        sink.close()
