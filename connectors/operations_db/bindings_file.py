"""Bindings from a CSV or Parquet file: device_no, vehicle_id, valid_from, valid_to, and where
known binding_version and msisdn (the phone number of a CSA terminal)."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from connectors.errors import BadSettings, DependencyFailed
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from transforms.bindings.bindings import SCHEMA, Bindings
from transforms.model.known_terminals import KnownTerminals

UTC_MS = pa.timestamp("ms", tz="UTC")
REQUIRED = ("device_no", "vehicle_id", "valid_from", "valid_to")
_TEXTS = ("device_no", "vehicle_id", "msisdn")


class BadBindings(BadSettings):
    """A bindings or vehicles file is absent, empty or has wrong contents: names file, column,
    value."""


@dataclass(frozen=True)
class Terminals:
    """The bindings of a file, and the terminals and phone numbers that decoding needs."""

    bindings: Bindings
    known: KnownTerminals


def load_bindings(path: str, settings: S3Settings) -> Terminals:
    """Read a bindings file. Raises BadBindings, or DependencyFailed when it cannot be reached."""
    table = bindings_table(path, settings)
    phones = None
    if "msisdn" in table.column_names:
        pairs = zip(table["msisdn"].to_pylist(), table["device_no"].to_pylist(), strict=True)
        phones = {phone: device_no for phone, device_no in pairs if phone}
    bindings = Bindings.from_table(table)
    return Terminals(bindings, KnownTerminals(bindings.known, phones))


def bindings_table(path: str, settings: S3Settings) -> pa.Table:
    """The rows of a bindings file, checked: the columns of `SCHEMA`, and msisdn where the file has
    it. Raises as `load_bindings`."""
    return _normal(_read(path, settings), path)


def _read(path: str, settings: S3Settings) -> pa.Table:
    parent, _, name = path.rpartition("/")
    parent_folder = folder(parent or ("." if "/" not in path else "/"), settings)
    if parent_folder.local and os.path.isdir(path):
        raise BadBindings(f"bindings file {path} is a folder")
    data = parent_folder.read(name)
    if data is None:
        if parent_folder.local:
            raise BadBindings(f"bindings file {path} does not exist")
        raise DependencyFailed(f"bindings file {path} does not exist")
    try:
        if name.endswith(".parquet"):
            return pq.read_table(pa.BufferReader(data))
        texts = {column: pa.string() for column in _TEXTS}
        options = pa_csv.ConvertOptions(
            column_types={**texts, "valid_from": pa.string(), "valid_to": pa.string()},
            strings_can_be_null=True,
            null_values=[""],
        )
        return pa_csv.read_csv(pa.BufferReader(data), convert_options=options)
    except pa.ArrowInvalid as error:
        raise BadBindings(f"bindings file {path} cannot be read: {error}") from None


def _normal(table: pa.Table, path: str) -> pa.Table:
    missing = [column for column in REQUIRED if column not in table.column_names]
    if missing:
        raise BadBindings(f"bindings file {path} lacks {missing}; it has {table.column_names}")
    if not table.num_rows:
        raise BadBindings(f"bindings file {path} holds no binding; a job never starts on none")
    for name in _TEXTS:
        if name in table.column_names:
            text = pc.utf8_trim_whitespace(table[name].cast(pa.string()))
            text = pc.if_else(pc.equal(text, ""), None, text)
            table = _with(table, name, pc.utf8_upper(text) if name == "device_no" else text)
    for name in ("valid_from", "valid_to"):
        table = _with(table, name, _instants(table[name], name, path))
    table = _with(table, "binding_version", _versions(table, path))
    for name in ("device_no", "vehicle_id", "valid_from"):
        if table[name].null_count:
            row = pc.index(table[name].is_null(), True).as_py()
            raise BadBindings(f"bindings file {path}: {name} is empty in row {row + 1}")
    keep = [name for name in (*SCHEMA.names, "msisdn") if name in table.column_names]
    return table.select(keep)


def _versions(table: pa.Table, path: str) -> pa.ChunkedArray | pa.Array:
    if "binding_version" not in table.column_names:
        return pa.repeat(pa.scalar(0, pa.int64()), table.num_rows)
    try:
        return table["binding_version"].cast(pa.int64()).fill_null(0)
    except pa.ArrowInvalid as error:
        raise BadBindings(f"bindings file {path}: binding_version: {error}") from None


def _with(table: pa.Table, name: str, column: pa.ChunkedArray | pa.Array) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)


def _instants(column: pa.ChunkedArray, name: str, path: str) -> pa.ChunkedArray:
    """As timestamps in UTC. Raises BadBindings for a text without a zone (Z or an offset)."""
    if pa.types.is_timestamp(column.type) and column.type.tz:
        return column.cast(UTC_MS, safe=False)
    texts = column.cast(pa.string())
    zoned = pc.match_substring_regex(texts, r"(Z|[+-]\d\d:?\d\d)$").fill_null(True)
    if not pc.all(zoned).as_py():
        row = pc.index(zoned, False).as_py()
        raise BadBindings(
            f"bindings file {path}: {name} {texts[row].as_py()!r} in row {row + 1} has no zone; "
            "write it as 2024-01-15T03:00:00+00:00"
        )
    try:
        return texts.cast(pa.timestamp("us", tz="UTC")).cast(UTC_MS, safe=False)
    except pa.ArrowInvalid as error:
        raise BadBindings(f"bindings file {path}: {name}: {error}") from None
