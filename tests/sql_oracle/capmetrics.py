"""An oracle for archives of gps uploads in JSON: docs/rules.md once more, in plain SQL.

It shares no code with the project. It covers well-formed STS gps uploads with a clock that is good
or runs ahead (rules 1, 2, 3, 4.5 to 4.7, 5, 7, 8 and the ledger), which is all that an archive made
of CapMetrics days holds; an upload outside that stops it with an error instead of a wrong answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True)
class Oracle:
    """What the lake and the ledger must say about one archive.

    Times are epoch milliseconds UTC, distances metres, speeds km/h.
    """

    telemetry: pa.Table
    minutes: pa.Table
    samples_per_terminal: pa.Table
    flag_counts: pa.Table
    ledger: pa.Table

    def totals(self) -> dict[str, int]:
        """The ledger summed over partitions and arrival hours."""
        counts = [name for name in self.ledger.column_names if name not in ("part", "arrival_hour")]
        return {name: sum(self.ledger[name].to_pylist()) for name in counts}

    def flagged(self) -> dict[str, int]:
        """Telemetry rows by quality flag."""
        return dict(zip(*(column.to_pylist() for column in self.flag_counts.columns), strict=True))


def oracle(archive: Path, bindings: Path) -> Oracle:
    """Compute the facts of `archive` (the folder that holds topics/) with the bindings CSV.

    Raises duckdb.Error where an upload lies outside what the oracle covers.
    """
    with duckdb.connect() as con:
        con.execute("set threads = 1")
        con.execute("set timezone = 'UTC'")
        con.execute("set variable archive = $1", [Path(archive).as_posix()])
        con.execute("set variable bindings = $1", [Path(bindings).as_posix()])
        for script in sorted(SQL.glob("*.sql")):
            con.execute(script.read_text(encoding="utf-8"))
        return Oracle(
            **{
                table: con.sql(f"select * from {table}").to_arrow_table()
                for table in Oracle.__dataclass_fields__
            }
        )


def compare(lake: Path, expected: Oracle, ledger: Mapping | None = None) -> None:
    """Compare a lake, and a ledger if given, with the oracle.

    Distances may differ by 0.1 %, sums of speeds by 1e-5; all else is exact. Raises AssertionError
    with the first differing rows of every table.
    """
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'")
        for table in Oracle.__dataclass_fields__:
            con.register(table, getattr(expected, table))
        for table in ("telemetry_gps", "vehicle_minutes"):
            files = [path.as_posix() for path in sorted(Path(lake, table).rglob("*.parquet"))]
            assert files, f"the lake has no {table}"
            con.read_parquet(files, hive_partitioning=False).create_view(f"lake_{table}")
        found = [text for check in CHECKS if (text := check.differences(con))]
    if ledger is not None:
        found += ledger_differences(expected, ledger)
    assert not found, "\n\n".join(found)


@dataclass(frozen=True)
class Check:
    """One table of the lake against the oracle's: a key, exact columns, nearly equal columns."""

    name: str
    expected: str
    actual: str
    key: tuple[str, ...]
    exact: tuple[str, ...]
    close: tuple[tuple[str, float], ...] = ()

    def differences(self, con: duckdb.DuckDBPyConnection, shown: int = 8) -> str:
        """The differing rows as text, empty where there are none."""
        unequal = [f"e.{c} is distinct from a.{c}" for c in self.exact]
        unequal += [
            f"abs(e.{c} - a.{c}) > {tolerance} * greatest(abs(e.{c}), 1e-3)"
            for c, tolerance in self.close
        ]
        columns = [*self.exact, *(c for c, _ in self.close)]
        pairs = [
            f"case when {test} then '{c}: expected ' || coalesce(e.{c}::varchar, 'null')"
            f" || ', found ' || coalesce(a.{c}::varchar, 'null') end"
            for c, test in zip(columns, unequal, strict=True)
        ]
        key = ", ".join(f"coalesce(e.{k}, a.{k}) as {k}" for k in self.key)
        query = f"""
            with e as (select *, true as here from ({self.expected})),
                 a as (select *, true as here from ({self.actual})),
            pairs as (
                select {key}, case when e.here is null then ['not expected']
                    when a.here is null then ['missing']
                    else list_filter([{", ".join(pairs)}], lambda t: t is not null) end as wrong
                from e full join a on {" and ".join(f"e.{k} = a.{k}" for k in self.key)}
            )
            select *, count(*) over () as n from pairs where len(wrong) > 0
            order by all limit {shown}"""
        rows = con.execute(query).fetchall()
        if not rows:
            return ""
        lines = [f"  {' '.join(map(str, row[:-2]))}: {'; '.join(row[-2])}" for row in rows]
        return f"{self.name}: {rows[0][-1]} rows differ\n" + "\n".join(lines)


MINUTE_COUNTS = (
    "device_nos",
    "n_uploads",
    "n_samples",
    "n_flagged",
    "speed_n",
    "driving_s",
    "overspeed_s",
    "speed_min_kmh",
    "speed_max_kmh",
    "first_ms",
    "last_ms",
)
ROW_FACTS = (
    "device_no",
    "vehicle_id",
    "binding_status",
    "event_ms",
    "device_ms",
    "time_source",
    "lat_deg",
    "lon_deg",
    "speed_kmh",
    "object",
    "line",
    "quality_flags",
)
CHECKS = (
    Check(
        "samples per terminal",
        "select * from samples_per_terminal",
        "select device_no, count(*) as n_samples from lake_telemetry_gps group by all",
        ("device_no",),
        ("n_samples",),
    ),
    Check(
        "rows by flag",
        "select * from flag_counts",
        """select flag, count(*) filter (list_contains(quality_flags, flag)) as n_rows
           from lake_telemetry_gps cross join (select flag from flag_counts) group by all""",
        ("flag",),
        ("n_rows",),
    ),
    Check(
        "telemetry_gps",
        "select * from telemetry",
        """select * replace (list_sort(quality_flags) as quality_flags),
                  epoch_ms(event_time) as event_ms, epoch_ms(device_time) as device_ms
           from lake_telemetry_gps""",
        ("message_id", "sample_idx"),
        ROW_FACTS,
    ),
    Check(
        "vehicle_minutes",
        "select *, 0 as revision from minutes",
        """select * replace (list_sort(device_nos) as device_nos), epoch_ms(minute) as minute_ms,
                  epoch_ms(first_time) as first_ms, epoch_ms(last_time) as last_ms
           from lake_vehicle_minutes""",
        ("vehicle_id", "minute_ms"),
        ("revision", *MINUTE_COUNTS),
        (("distance_gps_m", 1e-3), ("speed_sum_kmh", 1e-5), ("speed_sumsq", 1e-5)),
    ),
)


def ledger_differences(expected: Oracle, ledger: Mapping) -> list[str]:
    """Where totals and the counts by topic, partition and hour differ, one text a place."""
    wanted = {("totals",): expected.totals()}
    for row in expected.ledger.to_pylist():
        place = ("message-gps", row.pop("part"), row.pop("arrival_hour"))
        wanted[place] = row
    names = tuple(expected.totals())
    found = {("totals",): {name: ledger["totals"][name] for name in names}}
    for row in ledger["by"]:
        place = (row["topic"], row["partition"], row["hour"])
        found[place] = {name: row[name] for name in names}
    different = [
        place
        for place in sorted({*wanted, *found}, key=str)
        if wanted.get(place) != found.get(place)
    ]
    return [
        f"ledger {place}: expected {wanted.get(place)}, found {found.get(place)}"
        for place in different
    ]
