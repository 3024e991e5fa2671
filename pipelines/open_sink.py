"""The store of a job: how it is opened, which tables it keeps, and whether it can be reached."""

from __future__ import annotations

from connectors.errors import BadSettings
from connectors.operations_db.settings import DatabaseSettings
from connectors.retries import DeliverySettings
from connectors.sinks.catalogue import entry_of
from connectors.sinks.contract import Sink
from connectors.sinks.tables import TABLES, Table
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings, named_folder


def open_sink(store: DeliverySettings | None, database: DatabaseSettings) -> Sink:
    """The store of rows that settings lead to; its client's library is imported here. Raises
    BadSettings where settings lack what the store needs, MissingSecret."""
    entry = entry_of(store)
    if entry.open is None:
        raise BadSettings(f"sinks.{entry.name} is no store of rows")
    return entry.open(store, database)


def tables_of(store: DeliverySettings | None) -> tuple[Table, ...]:
    """The tables of facts that a store keeps."""
    return tuple(TABLES[name] for name in entry_of(store).tables)


def check_store(store: DeliverySettings, database: DatabaseSettings, s3: S3Settings) -> None:
    """Reach a store, and make what it needs there. Raises BadSettings, MissingSecret,
    DependencyFailed."""
    entry = entry_of(store)
    if entry.folder_of:
        folder(named_folder(entry.name, entry.folder_of(store)), s3).reach()
        return
    sink = open_sink(store, database)
    try:
        sink.prepare(tables_of(store))
    finally:
        sink.close()
