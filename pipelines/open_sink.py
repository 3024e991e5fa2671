"""The stores that facts are written to as rows, and how a job opens one.

A store plugs in here: `open_sink` knows its settings class and gives a `contract.Sink`.
"""

from __future__ import annotations

from connectors.archive.settings import ArchiveSettings
from connectors.lake.settings import LakeSettings
from connectors.settings import BadSettings, named_folder
from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.contract import Sink
from connectors.sinks.elasticsearch.settings import ElasticsearchSettings
from connectors.sinks.tables import MINUTES, TELEMETRY, Table
from connectors.sinks.vehicle_state.settings import StateSettings
from connectors.storage.folder import folder
from pipelines.live.spec import Live


def open_sink(live: Live) -> Sink:
    """The store a job writes rows to; its client's library is imported here. Raises BadSettings
    where settings lack what the store needs, MissingSecret."""
    store = live.store
    if isinstance(store, BigQuerySettings):
        from connectors.sinks.bigquery.sink import BigQuerySink

        return BigQuerySink(store)
    if isinstance(store, ElasticsearchSettings):
        from connectors.sinks.elasticsearch.sink import ElasticsearchSink

        return ElasticsearchSink(store)
    if isinstance(store, StateSettings):
        from connectors.sinks.vehicle_state.sink import StateStore

        return StateStore(store, live.database)
    raise BadSettings(f"{live.name}: {type(store).__name__} is no store of rows")


def tables_of(live: Live) -> tuple[Table, ...]:
    """The tables a job's store keeps; the state of vehicles is made of telemetry alone."""
    telemetry = tuple(TELEMETRY.values())
    return telemetry if isinstance(live.store, StateSettings) else (*telemetry, MINUTES)


def check_store(live: Live) -> None:
    """Reach the store a job writes to, and make what it needs there. Raises BadSettings,
    MissingSecret, DependencyFailed."""
    if live.store is None:
        return
    if isinstance(live.store, ArchiveSettings | LakeSettings):
        place = named_folder(live.name.removeprefix("sink-"), live.store.folder)
        folder(place, live.s3).reach()
        return
    sink = open_sink(live)
    try:
        sink.prepare(tables_of(live))
    finally:
        sink.close()
