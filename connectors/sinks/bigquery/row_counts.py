"""How many rows BigQuery holds: for a look, not for a job."""

from __future__ import annotations

from collections import Counter

from connectors.errors import DependencyFailed
from connectors.sinks.bigquery.client import RestClient
from connectors.sinks.bigquery.errors import Missing
from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.bigquery.views import latest_name
from connectors.sinks.tables import TABLES


def rows(settings: BigQuerySettings) -> Counter[str]:
    """Rows by view of what holds now. Raises BadSettings, DependencyFailed."""
    rest = RestClient(settings)
    counts: Counter[str] = Counter()
    for name in map(latest_name, TABLES.values()):
        query = f"select count(*) from `{rest.dataset}.{name}`"
        try:
            job = rest.call(f"count {name}", rest.client.query, query, job_retry=None)
            answer = rest.call(f"count {name}", job.result, job_retry=None)
        except Missing as error:
            raise DependencyFailed(f"{error}; run `odograph bigquery prepare`") from error
        counts[name] = int(next(iter(answer))[0])
    rest.close()
    return counts
