"""Tables and views of facts in a dataset: made, given new columns, never narrowed."""

from __future__ import annotations

from google.cloud import bigquery
from google.cloud.bigquery import SchemaField

from connectors.errors import DependencyFailed
from connectors.retries import TransientError, with_retries
from connectors.sinks.bigquery import schema, views
from connectors.sinks.bigquery.client import RestClient
from connectors.sinks.bigquery.errors import Exists, Missing
from connectors.sinks.tables import Table

_SAME = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}


class Dataset:
    """One dataset with tables of facts and their views. Methods raise DependencyFailed."""

    def __init__(self, rest: RestClient) -> None:
        self.rest = rest
        self.settings = rest.settings

    def place(self, table: Table) -> str:
        """project.dataset.table"""
        return f"{self.rest.dataset}.{table.name}"

    def ensure(self, table: Table) -> None:
        """Make the table, its view and the dataset where they are missing, add columns that are
        new. Safe to do at the same time elsewhere."""
        with_retries(self.settings, lambda: self._table(table))
        with_retries(self.settings, lambda: self._view(table))

    def found(self, table: Table) -> bigquery.Table:
        """The table as BigQuery has it. Raises Missing too."""
        return self._get(self.place(table))

    def there(self, table: Table) -> bigquery.Table:
        """The table as BigQuery has it, made again where somebody deleted it."""

        def look() -> bigquery.Table:
            try:
                return self.found(table)
            except Missing as error:
                self.ensure(table)
                raise TransientError(str(error)) from None

        return with_retries(self.settings, look)

    def _get(self, place: str) -> bigquery.Table:
        return self.rest.once(f"look at {place}", self.rest.client.get_table, place)

    def _table(self, table: Table) -> None:
        try:
            found = self.found(table)
        except Missing:
            self._create(_wanted(table, self.place(table)))
            return
        self._check(found)
        missing = _missing(found.schema, schema.fields(table), found.reference.table_id)
        if missing:
            found.schema = [*found.schema, *missing]
            self._update(found, ["schema"])

    def _view(self, table: Table) -> None:
        place = f"{self.rest.dataset}.{views.latest_name(table)}"
        query = views.latest(table, self.place(table))
        try:
            found = self._get(place)
        except Missing:
            view = bigquery.Table(place)
            view.view_query = query
            self._create(view)
            return
        if found.view_query != query:
            found.view_query = query
            self._update(found, ["view_query"])

    def _create(self, table: bigquery.Table) -> None:
        doing = f"make {table.reference.table_id}"
        make = self.rest.client.create_table
        self._ensure_dataset()
        try:
            self.rest.once(doing, make, table)
        except (Exists, Missing) as error:
            raise TransientError(str(error)) from None

    def _update(self, table: bigquery.Table, what: list[str]) -> None:
        """Of two that change a table at once, one is told (its etag is old) and looks again."""
        doing = f"change {what[0]} of {table.reference.table_id}"
        try:
            self.rest.once(doing, self.rest.client.update_table, table, what)
        except (Exists, Missing) as error:
            raise TransientError(str(error)) from None

    def _ensure_dataset(self) -> None:
        client = self.rest.client
        try:
            self.rest.once("look at the dataset", client.get_dataset, self.rest.dataset)
        except Missing:
            made = bigquery.Dataset(self.rest.dataset)
            if self.settings.location:
                made.location = self.settings.location
            self.rest.once("make the dataset", client.create_dataset, made, exists_ok=True)

    def _check(self, found: bigquery.Table) -> None:
        partitioning = found.time_partitioning
        if partitioning is None or partitioning.field != schema.DATE.name:
            raise DependencyFailed(
                f"BigQuery table {found.reference} is not partitioned by {schema.DATE.name}; "
                "somebody else made it: move it away, or choose another "
                "sinks.bigquery.dataset"
            )


def _wanted(table: Table, place: str) -> bigquery.Table:
    made = bigquery.Table(place, schema=schema.fields(table))
    made.time_partitioning = bigquery.TimePartitioning(field=schema.DATE.name)
    made.clustering_fields = schema.clusters(table)
    return made


def _missing(found: list[SchemaField], wanted: list[SchemaField], where: str) -> list[SchemaField]:
    """Columns the table does not have yet. Raises DependencyFailed for one of another type."""
    there = {field.name: field for field in found}
    for field in wanted:
        if field.name in there and _kind(there[field.name]) != _kind(field):
            raise DependencyFailed(
                f"BigQuery table {where}: column {field.name} is {_kind(there[field.name])}, "
                f"but rows have {_kind(field)}; move the table away, or choose another "
                "sinks.bigquery.dataset"
            )
    return [_added(field) for field in wanted if field.name not in there]


def _added(field: SchemaField) -> SchemaField:
    """A column that comes later cannot be required of rows that are there."""
    if field.mode != "REQUIRED":
        return field
    return SchemaField(field.name, field.field_type, "NULLABLE", fields=field.fields)


def _kind(field: SchemaField) -> str:
    name = _SAME.get(field.field_type, field.field_type)
    return f"{'repeated ' if field.mode == 'REPEATED' else ''}{name}"
