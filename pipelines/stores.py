"""The stores that facts are written to as rows, and how a job opens one.

A store plugs in here: `open_sink` knows its settings class and gives a `connectors.sink.Sink`.
"""

from __future__ import annotations

from connectors.archive_settings import ArchiveSettings
from connectors.bigquery.settings import BigQuerySettings
from connectors.elasticsearch.settings import ElasticsearchSettings
from connectors.files import folder
from connectors.lake_settings import LakeSettings
from connectors.settings import BadSettings, named_folder
from connectors.sink import Sink
from connectors.state_settings import StateSettings
from connectors.tables import MINUTES, TELEMETRY, Table
from pipelines.live import Live


def open_sink(live: Live) -> Sink:
    """The store a job writes rows to; its client's library is imported here. Raises BadSettings
    where settings lack what the store needs, MissingSecret."""
    store = live.store
    if isinstance(store, BigQuerySettings):
        from connectors.bigquery.sink import BigQuerySink

        return BigQuerySink(store)
    if isinstance(store, ElasticsearchSettings):
        from connectors.elasticsearch.sink import ElasticsearchSink

        return ElasticsearchSink(store)
    if isinstance(store, StateSettings):
        from connectors.state_store import StateStore

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
