"""How many documents Elasticsearch holds: for a look, not for a job."""

from __future__ import annotations

from collections import Counter
from functools import partial

from connectors.retries import with_retries
from connectors.sinks.elasticsearch.client import connect
from connectors.sinks.elasticsearch.documents import index_base
from connectors.sinks.elasticsearch.settings import ElasticsearchSettings
from connectors.sinks.elasticsearch.vehicle_writes import index_name
from connectors.sinks.tables import TABLES


def documents(settings: ElasticsearchSettings) -> Counter[str]:
    """Documents by kind of index, all days together. Raises DependencyFailed."""
    prefix = settings.index_prefix
    bases = {
        index_base(prefix, table): f"{index_base(prefix, table)}-*" for table in TABLES.values()
    }
    connection = connect(settings)

    def count(path: str) -> int:
        return int(connection.ask("GET", path)["count"])

    try:
        counts: Counter[str] = Counter()
        for base, pattern in {**bases, index_name(prefix): index_name(prefix)}.items():
            path = f"/{pattern}/_count?ignore_unavailable=true"
            counts[base] = with_retries(settings, partial(count, path))
        return counts
    finally:
        connection.close()
