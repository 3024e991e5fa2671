"""Starts bqemulator 1.4.0 with its repairs; run by the Python of the emulator's own environment,
with the emulator's arguments.

Repaired: appends to a table with a STRUCT column failed, because the columns of the STRUCT were
dropped; every append copied the whole table for time travel, which nobody here asks for.
"""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import duckdb
from bqemulator import cli
from bqemulator.api.routes import tabledata
from bqemulator.grpc_api import write_servicer
from bqemulator.versioning.snapshots import SnapshotManager


def _schema_of(meta):
    return tabledata._build_arrow_schema(tabledata._fields_raw_from_schema(meta.schema_.fields))


def _put_extension_where_duckdb_looks() -> None:
    """DuckDB would fetch the extension from the net into the home of whoever runs it."""
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
    write_servicer._table_arrow_schema = _schema_of
    SnapshotManager.capture = lambda *_, **__: None
    _put_extension_where_duckdb_looks()
    sys.exit(cli.main())
