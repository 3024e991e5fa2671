"""Rows of a table as the lines of a bulk request, native code throughout."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from connectors.sinks.tables import GONE, REVISION, Table

LATITUDE, LONGITUDE, LOCATION = "lat_deg", "lon_deg", "location"
LONGEST_ID = 512
DAY_LENGTH = len("YYYY.MM.DD")
_NULLS = r',"[A-Za-z0-9_]+":null'
_LINES = pl.CompatLevel.oldest()


def point_columns(name: str) -> tuple[str, str]:
    """The latitude and longitude that documents have as one point of this name."""
    start = name.removesuffix(LOCATION)
    return f"{start}{LATITUDE}", f"{start}{LONGITUDE}"


def locations(columns: pa.Schema) -> dict[str, tuple[str, str]]:
    """Names of the points of documents, and of the two columns of each."""
    starts = [name.removesuffix(LATITUDE) for name in columns.names if name.endswith(LATITUDE)]
    points = {f"{start}{LOCATION}": point_columns(f"{start}{LOCATION}") for start in starts}
    return {name: pair for name, pair in points.items() if pair[1] in columns.names}


def index_base(prefix: str, table: Table) -> str:
    """The alias of a table's indices, which their names begin with: `base-YYYY.MM.DD` is that of a
    day."""
    return f"{prefix}{table.name.replace('_', '-')}"


def by_day(base: str, table: Table) -> tuple[pl.Expr, pl.Expr]:
    """The daily index and the `_id` of rows whose instants are texts."""
    day = pl.col(table.time).str.slice(0, DAY_LENGTH).str.replace_all("-", ".")
    return pl.lit(f"{base}-") + day, pl.concat_str(table.key, separator="-")


def lines(
    prefix: str, table: Table, rows: pa.Table, places: pl.DataFrame | None = None
) -> pa.LargeStringArray:
    """What `_bulk` takes for each row: an index action and the document, or a delete action. Rows
    are of `table.revised`; a row's version is its revision. `places` has the `_index` and `_id` of
    each; without, a row lies in the index of its day."""
    frame = frame_of(table.columns, rows)
    own = [name for name in frame.columns if name != GONE.name]
    if places is None:
        index, key = by_day(index_base(prefix, table), table)
    else:
        frame = frame.hstack(places)
        index, key = pl.col("_index"), pl.col("_id")
    action = _object(
        _index=index, _id=key, version=pl.col(REVISION.name), version_type=pl.lit("external")
    )
    document = json_of(own, frame)
    made = frame.select(
        pl.when(pl.col(GONE.name))
        .then(pl.concat_str(pl.lit('{"delete":'), action, pl.lit("}\n")))
        .otherwise(
            pl.concat_str(pl.lit('{"index":'), action, pl.lit("}\n"), document, pl.lit("\n"))
        )
    )
    return as_lines(made.to_series())


def as_lines(texts: pl.Series) -> pa.LargeStringArray:
    """Texts as one Arrow array, whose data are the texts one behind the other."""
    made = texts.to_arrow(compat_level=_LINES)
    return pa.concat_arrays(made.chunks) if isinstance(made, pa.ChunkedArray) else made


def json_of(columns: list[str], frame: pl.DataFrame) -> pl.Expr:
    """These columns as a JSON object without nulls; the first must have none."""
    empty = [name for name in columns[1:] if frame[name].null_count() == frame.height]
    kept = [name for name in columns if name not in empty]
    made = pl.struct(kept).struct.json_encode()
    missing = any(frame[name].null_count() for name in kept)
    floats = any(frame[name].dtype.is_float() for name in kept)
    nested = any(frame[name].dtype.is_nested() for name in kept)
    return made.str.replace_all(_NULLS, "") if missing or floats or nested else made


def too_long(table: Table, rows: pa.Table, longest: int = LONGEST_ID) -> pa.BooleanArray:
    """Which rows have a key of more than `longest` bytes."""
    parts = [pc.cast(rows[name], pa.large_string()) for name in table.key]
    size = sum(pc.binary_length(part).to_numpy() for part in parts) + len(parts) - 1
    return pa.array(size > longest)


def iso(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Instants (UTC, ms) as texts such as 2026-01-31T23:59:59.123Z."""
    plain = pc.cast(pc.cast(times, pa.timestamp("ms")), pa.string())
    joined = pc.binary_replace_slice(plain, 10, 11, "T")
    return pc.binary_join_element_wise(joined, "Z", "")


def texts(rows: pa.Table) -> pa.Table:
    """Rows with instants as texts."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            rows = rows.set_column(place, field.name, iso(rows[field.name]))
    return rows


def frame_of(columns: pa.Schema, rows: pa.Table) -> pl.DataFrame:
    """Rows as documents have them: instants as texts, points instead of latitudes and longitudes
    (null where one of the two is)."""
    frame = pl.from_arrow(texts(rows))
    assert isinstance(frame, pl.DataFrame)
    points = locations(columns)
    for name, (latitude, longitude) in points.items():
        known = pl.col(latitude).is_finite() & pl.col(longitude).is_finite()
        point = pl.struct(lat=latitude, lon=longitude)
        frame = frame.with_columns(pl.when(known).then(point).alias(name))
    return frame.drop([name for pair in points.values() for name in pair])


def _object(**values: pl.Expr) -> pl.Expr:
    named = [value.alias(name) for name, value in values.items()]
    return pl.struct(named).struct.json_encode()
