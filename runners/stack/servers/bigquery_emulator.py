"""Starts bqemulator 1.4.0 with its repairs; run by the Python of the emulator's own environment,
with the emulator's arguments. docs/sinks/bigquery.md lists what stays wrong."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import duckdb
import grpc
from bqemulator import cli
from bqemulator.api.routes import tabledata, tables, upload
from bqemulator.catalog.duckdb_repository import DuckDBCatalogRepository
from bqemulator.domain.errors import ResourceRef, resource_already_exists
from bqemulator.grpc_api import write_servicer
from bqemulator.storage.sql_identifiers import quoted_table_ref
from bqemulator.versioning.snapshots import SnapshotManager

STREAMS = 512
JOB: ContextVar[str | None] = ContextVar("job", default=None)


def append_to_struct_columns() -> None:
    """The columns of a STRUCT were dropped, so that appends to its table failed."""

    def schema_of(meta):
        return tabledata._build_arrow_schema(tabledata._fields_raw_from_schema(meta.schema_.fields))

    write_servicer._table_arrow_schema = schema_of


def append_without_copies() -> None:
    """Each append copied the whole table for time travel, which is not used here."""
    SnapshotManager.capture = lambda *_, **__: None


def serve_many_streams() -> None:
    """Every open stream held one of a few threads, so that further streams waited for a thread."""
    threads = ThreadPoolExecutor(STREAMS)
    grpc.aio.server = partial(grpc.aio.server, migration_thread_pool=threads)


def add_columns() -> None:
    """A new column was added to the schema, but not to the table."""
    update = DuckDBCatalogRepository.update_table

    def with_new_columns(self, table):
        before = self.get_table(table.project_id, table.dataset_id, table.table_id)
        there = {field.name for field in before.schema_.fields} if before else set()
        new = [tables._field_to_rest(f) for f in table.schema_.fields if f.name not in there]
        if there and new:
            table_path = quoted_table_ref(table.project_id, table.dataset_id, table.table_id)
            for name, kind in tables.bq_schema_to_duckdb_columns(new):
                self._engine.execute(f'ALTER TABLE {table_path} ADD COLUMN "{name}" {kind}')
        return update(self, table)

    DuckDBCatalogRepository.update_table = with_new_columns


def show_queries_of_views() -> None:
    """The description of a view lacked its query."""
    plain = tables._table_to_rest

    def with_query(meta):
        view = {"view": {"query": meta.view_query, "useLegacySql": False}}
        return plain(meta) | (view if meta.view_query else {})

    tables._table_to_rest = with_query


def keep_ids_of_load_jobs() -> None:
    """A load job got an id of its own, so that the same job ran twice."""
    configuration_of, run, new_id = (
        upload._load_configuration_from_envelope,
        upload._run_load,
        upload._new_job_id,
    )

    def with_id(envelope):
        wanted = (envelope.get("jobReference") or {}).get("jobId")
        return {**configuration_of(envelope), "wantedJob": wanted}

    async def run_once(*, project_id, configuration, media_path, ctx):
        wanted = configuration.pop("wantedJob", None)
        if wanted and ctx.catalog.get_job(project_id, wanted) is not None:
            raise resource_already_exists(ResourceRef("job", project_id, "", wanted))
        JOB.set(wanted)
        return await run(
            project_id=project_id, configuration=configuration, media_path=media_path, ctx=ctx
        )

    upload._load_configuration_from_envelope = with_id
    upload._run_load = run_once
    upload._new_job_id = lambda: JOB.get() or new_id()


def put_extension_where_duckdb_looks() -> None:
    """DuckDB would fetch the extension from the net into the user's home folder."""
    spec = find_spec("duckdb_extension_spatial")
    version = f"v{duckdb.__version__}"
    source = Path(spec.submodule_search_locations[0]) / "extensions" / version
    (platform,) = duckdb.sql("pragma platform").fetchone()
    target = Path.home() / ".duckdb" / "extensions" / version / platform
    target.mkdir(parents=True, exist_ok=True)
    for file in source.glob("*.duckdb_extension"):
        if not (target / file.name).exists():
            shutil.copy(file, target)


if __name__ == "__main__":
    append_to_struct_columns()
    append_without_copies()
    serve_many_streams()
    add_columns()
    show_queries_of_views()
    keep_ids_of_load_jobs()
    put_extension_where_duckdb_looks()
    sys.exit(cli.main())
