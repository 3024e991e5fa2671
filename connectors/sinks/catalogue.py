"""All stores that facts go to, an entry each: what Odograph knows of a sink follows from it.

The settings file, the live jobs, `odograph submit sink`, `--to` of a backfill, `odograph stores`
and `odograph status` are made from CATALOGUE. A client's library is imported when a store is
opened or counted, not here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from connectors.archive.settings import ArchiveSettings
from connectors.errors import BadSettings
from connectors.lake.settings import LakeSettings
from connectors.operations_db.settings import DatabaseSettings
from connectors.retries import DeliverySettings
from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.elasticsearch.settings import ElasticsearchSettings
from connectors.sinks.vehicle_state.settings import StateSettings
from connectors.storage.settings import S3Settings, named_folder
from schemas import MESSAGE_TYPES

if TYPE_CHECKING:
    from connectors.sinks.contract import Sink

TELEMETRY_TABLES = tuple(f"telemetry_{name}" for name in MESSAGE_TYPES)
MINUTES_TABLE = "vehicle_minutes"

Takes = Literal["rows", "records", "offset blocks"]
"""What the live job hands to a store: `rows` of facts by key, exact `records` of the device topics,
or the facts of whole `offset blocks`."""

Settings = TypeVar("Settings", bound=DeliverySettings)


@dataclass(frozen=True, kw_only=True)
class SinkEntry(Generic[Settings]):
    """A store. `name` is its key in `sinks` of the settings file, which `settings` reads; `tables`
    are names of the tables of facts it keeps (none: a backfill cannot write to it); `help` is the
    line of `odograph submit sink --help`.

    `open` connects to a store of rows, given its settings and the database of bindings; `folder_of`
    says where a store lies that is a folder. `count_rows` counts what a store holds, by table or
    kind of thing. They raise BadSettings, MissingSecret and DependencyFailed.

    A store with `day_load_name` takes whole days from a backfill: its sink is a `contract.DaySink`,
    and the name stands in the names of files that wait for it. `checkpoint_interval_ms` is for a
    store that writes what it has at every checkpoint; None: that of the settings file.
    """

    name: str
    settings: type[Settings]
    takes: Takes
    tables: tuple[str, ...]
    help: str
    count_rows: Callable[[Settings, DatabaseSettings, S3Settings], Counter[str]]
    open: Callable[[Settings, DatabaseSettings], Sink] | None = None
    folder_of: Callable[[Settings], str | None] | None = None
    day_load_name: Callable[[Settings], str] | None = None
    checkpoint_interval_ms: Callable[[Settings], int] | None = None

    @property
    def keeps_minutes(self) -> bool:
        """Whether it keeps vehicle minutes too, and not telemetry alone."""
        return MINUTES_TABLE in self.tables

    def is_placed(self, settings: Settings) -> bool:
        """Whether the settings say where the store is: a folder may be left open."""
        return self.folder_of is None or bool(self.folder_of(settings))


def entry_of(settings: DeliverySettings | None) -> SinkEntry[Any]:
    """The entry of the store that these settings are of. Raises BadSettings where there is none."""
    for entry in CATALOGUE.values():
        if type(settings) is entry.settings:
            return entry
    raise BadSettings(f"{type(settings).__name__}: no settings of a store")


def settings_as(kind: type[Settings], settings: DeliverySettings | None, job: str) -> Settings:
    """The settings of a job's store, which must be of this kind. Raises BadSettings."""
    if isinstance(settings, kind):
        return settings
    (name,) = (entry.name for entry in CATALOGUE.values() if entry.settings is kind)
    raise BadSettings(f"{job}: sinks.{name} is not set")


def _count_archive(settings: ArchiveSettings, _: DatabaseSettings, s3: S3Settings) -> Counter[str]:
    from connectors.sinks.row_counts import archive_records
    from connectors.storage.folder import folder

    return archive_records(folder(named_folder("archive", settings.folder), s3))


def _count_lake(settings: LakeSettings, _: DatabaseSettings, s3: S3Settings) -> Counter[str]:
    from connectors.sinks.row_counts import lake_rows
    from connectors.storage.folder import folder

    return lake_rows(folder(named_folder("lake", settings.folder), s3))


def _open_bigquery(settings: BigQuerySettings, _: DatabaseSettings) -> Sink:
    from connectors.sinks.bigquery.sink import BigQuerySink

    return BigQuerySink(settings)


def _count_bigquery(
    settings: BigQuerySettings, _: DatabaseSettings, __: S3Settings
) -> Counter[str]:
    from connectors.sinks.bigquery.row_counts import rows

    return rows(settings)


def _open_elasticsearch(settings: ElasticsearchSettings, _: DatabaseSettings) -> Sink:
    from connectors.sinks.elasticsearch.sink import ElasticsearchSink

    return ElasticsearchSink(settings)


def _count_elasticsearch(
    settings: ElasticsearchSettings, _: DatabaseSettings, __: S3Settings
) -> Counter[str]:
    from connectors.sinks.elasticsearch.row_counts import documents

    return documents(settings)


def _open_state(settings: StateSettings, database: DatabaseSettings) -> Sink:
    from connectors.sinks.vehicle_state.sink import StateStore

    return StateStore(settings, database)


def _count_state(
    settings: StateSettings, database: DatabaseSettings, _: S3Settings
) -> Counter[str]:
    from connectors.sinks.vehicle_state.row_counts import rows

    return rows(settings, database)


CATALOGUE: dict[str, SinkEntry[Any]] = {
    entry.name: entry
    for entry in (
        SinkEntry(
            name="archive",
            settings=ArchiveSettings,
            takes="records",
            tables=(),
            help="Keep the exact bytes of the device topics.",
            count_rows=_count_archive,
            folder_of=lambda settings: settings.folder,
            checkpoint_interval_ms=lambda settings: settings.rotate_schedule_interval_ms,
        ),
        SinkEntry(
            name="lake",
            settings=LakeSettings,
            takes="offset blocks",
            tables=(*TELEMETRY_TABLES, MINUTES_TABLE),
            help="Write telemetry and vehicle minutes as Parquet.",
            count_rows=_count_lake,
            folder_of=lambda settings: settings.folder,
        ),
        SinkEntry(
            name="bigquery",
            settings=BigQuerySettings,
            takes="rows",
            tables=(*TELEMETRY_TABLES, MINUTES_TABLE),
            help="Write telemetry and vehicle minutes to BigQuery.",
            count_rows=_count_bigquery,
            open=_open_bigquery,
            day_load_name=lambda settings: f"{settings.project}.{settings.dataset}",
        ),
        SinkEntry(
            name="elasticsearch",
            settings=ElasticsearchSettings,
            takes="rows",
            tables=(*TELEMETRY_TABLES, MINUTES_TABLE),
            help="Write telemetry and vehicle minutes to Elasticsearch.",
            count_rows=_count_elasticsearch,
            open=_open_elasticsearch,
        ),
        SinkEntry(
            name="state",
            settings=StateSettings,
            takes="rows",
            tables=TELEMETRY_TABLES,
            help="Keep the newest state of every vehicle in Postgres.",
            count_rows=_count_state,
            open=_open_state,
        ),
    )
}
"""By name, in the order in which commands show them."""
