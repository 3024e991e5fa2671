"""What the stores that are folders of Parquet objects hold: for a look, not for a job."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.errors import DependencyFailed
from connectors.lake.read import TABLES as LAKE_TABLES
from connectors.lake.read import parts
from connectors.storage.folder import PARALLEL, Folder, failing


def archive_records(archive: Folder) -> Counter[str]:
    """Records by device topic. Raises DependencyFailed."""
    names = [name for name, _ in archive.child("topics").names() if name.endswith(".parquet")]
    return _rows(archive, {f"topics/{name}": name.partition("/")[0] for name in names})


def lake_rows(lake: Folder) -> Counter[str]:
    """Rows by table, where objects were merged and written again since a few too many. Raises
    DependencyFailed."""
    return _rows(lake, {part.name: table for table in LAKE_TABLES for part in parts(lake, table)})


def _rows(folder: Folder, objects: dict[str, str]) -> Counter[str]:
    """Rows of Parquet objects, `objects` by name, added up by what they are of."""

    def rows(name: str) -> int:
        try:
            with (
                failing(f"read {folder.uri}/{name}"),
                folder.system.open_input_file(folder.at(name)) as file,
            ):
                return int(pq.read_metadata(file).num_rows)
        except pa.ArrowInvalid as error:
            raise DependencyFailed(f"{folder.uri}/{name} is no Parquet object: {error}") from error

    counts: Counter[str] = Counter()
    with ThreadPoolExecutor(PARALLEL) as pool:
        for kind, count in zip(objects.values(), pool.map(rows, objects), strict=True):
            counts[kind] += count
    return counts
