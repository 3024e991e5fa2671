"""Index templates, derived from the columns of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from connectors.errors import BadSettings, DependencyFailed
from connectors.retries import with_retries
from connectors.sinks.elasticsearch.client import Connection, RequestRejected
from connectors.sinks.elasticsearch.documents import index_base, locations
from connectors.sinks.elasticsearch.rollover_indices import begin, refuse
from connectors.sinks.elasticsearch.settings import ElasticsearchSettings
from connectors.sinks.elasticsearch.vehicle_documents import COLUMNS
from connectors.sinks.elasticsearch.vehicle_writes import index_name
from connectors.sinks.tables import GONE, REVISION, Table

LONGEST_KEYWORD = 1024
PRIORITY = 500
DELETES_REMEMBERED = "1h"
REFRESHED_EVERY_S = 5
"""So long after it is taken a document is found."""
_POINT = {"type": "geo_point", "ignore_malformed": False}


def mapping(columns: pa.Schema) -> dict[str, Any]:
    """How documents with these columns are indexed. What is not among them is kept but cannot be
    searched, so that an older index never refuses a newer document."""
    points = locations(columns)
    replaced = {name for pair in points.values() for name in pair} | {GONE.name}
    fields = {field.name: _kind(field.type) for field in columns if field.name not in replaced}
    return {"dynamic": False, "properties": fields | dict.fromkeys(points, _POINT)}


def _kind(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        inner = _kind(kind.value_type)
        # Wave forms are to be read, not searched.
        return {**inner, "index": False} if pa.types.is_floating(kind.value_type) else inner
    if pa.types.is_map(kind):
        return {"type": "flattened", "ignore_above": LONGEST_KEYWORD}
    if pa.types.is_string(kind):
        return {"type": "keyword", "ignore_above": LONGEST_KEYWORD}
    if pa.types.is_timestamp(kind):
        return {"type": "date", "format": "strict_date_time"}
    simple = {
        pa.bool_(): "boolean",
        pa.int32(): "integer",
        pa.int64(): "long",
        pa.float32(): "float",
        pa.float64(): "double",
    }
    return {"type": simple[kind]}


def template(settings: ElasticsearchSettings, table: Table) -> dict[str, Any]:
    """The template of a table's indices, which are found together under the alias `index_base`.
    A daily index is made by its first row; no row makes a generation again that was deleted."""
    base = index_base(settings.index_prefix, table)
    index: dict[str, Any] = {
        "number_of_shards": settings.shards,
        "number_of_replicas": settings.replicas,
        "refresh_interval": f"{REFRESHED_EVERY_S}s",
        "codec": "best_compression",
        "gc_deletes": DELETES_REMEMBERED,
        "mapping.total_fields.limit": 2 * len(table.revised),
    }
    if settings.lifecycle_policy:
        index["lifecycle.name"] = settings.lifecycle_policy
    made = {
        "settings": {"index": index},
        "mappings": mapping(pa.schema([*table.columns, REVISION])),
    }
    named = {"index_patterns": [f"{base}-*"], "priority": PRIORITY}
    if settings.index_by == "day":
        return {**named, "template": {**made, "aliases": {base: {}}}}
    if settings.lifecycle_policy:
        index["lifecycle.rollover_alias"] = base
    return {**named, "allow_auto_create": False, "template": made}


def vehicles_template(settings: ElasticsearchSettings) -> dict[str, Any]:
    """The template of the index of vehicles, so that the next write after somebody deleted it makes
    it as it was."""
    index = {"number_of_shards": settings.shards, "number_of_replicas": settings.replicas}
    return {
        "index_patterns": [index_name(settings.index_prefix)],
        "priority": PRIORITY,
        "template": {"settings": {"index": index}, "mappings": mapping(COLUMNS)},
    }


def prepare(connection: Connection, tables: Sequence[Table]) -> None:
    """Put the templates of tables, their first generations and the index of vehicles, and new
    fields into indices that are there already. Raises DependencyFailed; BadSettings for a policy
    where there is no ILM, and for daily indices where there are generations."""
    settings = connection.settings
    if settings.lifecycle_policy and not has_lifecycles(connection):
        raise BadSettings(
            f"sinks.elasticsearch.lifecycle_policy {settings.lifecycle_policy}: {connection.shown} "
            "has no ILM; leave it out and run `odograph elasticsearch prune` daily"
        )
    rolling = settings.index_by == "rollover"

    def put() -> None:
        for table in tables:
            base = index_base(settings.index_prefix, table)
            if not rolling:
                refuse(connection, base)
            wanted = template(settings, table)
            _meant(connection, "PUT", f"/_index_template/{base}", wanted)
            _meant(connection, "PUT", f"/{base}-*/_mapping", wanted["template"]["mappings"])
            if rolling:
                begin(connection, base)
        index = index_name(settings.index_prefix)
        _meant(connection, "PUT", f"/_index_template/{index}", vehicles_template(settings))
        if _meant(connection, "PUT", f"/{index}", None) is None:
            _meant(connection, "PUT", f"/{index}/_mapping", mapping(COLUMNS))

    with_retries(settings, put)


def has_lifecycles(connection: Connection) -> bool:
    """Whether the cluster has ILM. Raises DependencyFailed."""
    try:
        with_retries(connection.settings, lambda: connection.ask("GET", "/_ilm/status"))
    except RequestRejected:
        return False
    return True


def _meant(connection: Connection, method: str, path: str, body: Any) -> Any:
    """What the cluster answers, None where that is there already, or there is none to change."""
    try:
        return connection.ask(method, path, body)
    except RequestRejected as error:
        if error.kind in ("resource_already_exists_exception", "index_not_found_exception"):
            return None
        raise DependencyFailed(
            f"{connection.shown}: {method} {path}: {error}; where a field has another type than "
            "ours, give another index_prefix"
        ) from None
