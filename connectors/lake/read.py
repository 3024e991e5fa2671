"""Reading a lake's tables as they are, merged objects or not, at any moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import pyarrow.parquet as pq

from connectors.lake.merged_objects import SOURCE, Hour, held
from connectors.storage.folder import Folder

TABLES = (*SOURCE, "vehicle_minutes")
PARTITIONS = "hive_partitioning = true, hive_types = {'date': DATE, 'hour': INTEGER}"


@dataclass(frozen=True)
class Part:
    """An object of a table, `name` below the lake. Rows of the archive objects `without` do not
    count: they have an object of their own."""

    name: str
    without: tuple[str, ...] = ()


def parts(lake: Folder, table: str, day: date | None = None) -> Iterator[Part]:
    """Objects that a table is made of now, of one date or all. Raises DependencyFailed."""
    below = f"{table}/date={day}" if day else table
    hours: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, size in lake.child(below).names():
        place, _, base = name.rpartition("/")
        hours[f"{below}/{place}"].append((base, size))
    for place, listed in sorted(hours.items()):
        hour = Hour.of(listed)
        for name in hour.sources:
            yield Part(f"{place}/{name}")
        for name in hour.merged:
            without = _superseded(lake, table, f"{place}/{name}", hour) if hour.sources else []
            yield Part(f"{place}/{name}", tuple(without))


def _superseded(lake: Folder, table: str, name: str, hour: Hour) -> list[str]:
    with lake.system.open_input_file(lake.at(name)) as file:
        return hour.superseded(held(table, pq.ParquetFile(file)))


def duckdb_source(lake: Folder, table: str, day: date | None = None) -> str | None:
    """What a DuckDB query may select from to read a table, with `date` and `hour` of the fleet's
    zone; None where there is nothing. It is right until objects are written or merged."""
    plain: list[Part] = []
    corrected: list[Part] = []
    for part in parts(lake, table, day):
        (corrected if part.without else plain).append(part)
    selects = []
    if plain:
        names = ", ".join(_quoted(_uri(lake, part)) for part in plain)
        selects.append(f"from read_parquet([{names}], union_by_name = true, {PARTITIONS})")
    for part in corrected:
        without = ", ".join(map(_quoted, part.without))
        column = SOURCE[table]
        selects.append(
            f"from read_parquet({_quoted(_uri(lake, part))}, {PARTITIONS})"
            f" where {column} is null or {column} not in ({without})"
        )
    return f"({' union all by name '.join(selects)})" if selects else None


def _uri(lake: Folder, part: Part) -> str:
    return lake.at(part.name) if lake.local else f"s3://{lake.at(part.name)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
