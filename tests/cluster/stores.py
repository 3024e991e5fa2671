"""What stores hold, as their readers see it, and what a batch over the device topics comes to."""

from __future__ import annotations

import datetime as dt
import json

import pyarrow as pa
import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from connectors.sinks.bigquery.client import RestClient
from connectors.sinks.elasticsearch.documents import index_base, lines
from connectors.sinks.tables import MINUTES, TELEMETRY
from pipelines.row_revisions import revised

TABLES = (*TELEMETRY.values(), MINUTES)
OUR_OWN = ("revision", "object", "line")
"""Not facts: what stores decide by, and a place that a live row does not have."""
PAGE = 10_000
WHILE_SHARDS_START = Retry(
    20, backoff_factor=0.2, backoff_max=2, status_forcelist=[503], allowed_methods=None
)
"""A node says 503 of an index whose shards are not all there yet."""


def expected(batch):
    """Rows of a batch (`tests.cluster.oracle.Batch`) by table, as stores get them."""
    found = {}
    for table in TELEMETRY.values():
        name = table.name.removeprefix("telemetry_")
        parts = [revised(table, part, 0) for part in batch.facts.telemetry.get(name, [])]
        found[table] = pa.concat_tables([table.revised.empty_table(), *parts])
    found[MINUTES] = revised(MINUTES, batch.facts.minutes, 0)
    return found


def documents(table, rows, prefix=""):
    """The rows as Elasticsearch shows them, by index and id."""
    parts = [rows.slice(at, PAGE) for at in range(0, rows.num_rows, PAGE)]
    told = [
        line
        for part in parts
        for text in lines(prefix, table, part).to_pylist()
        for line in text.splitlines()
    ]
    pairs = zip(map(json.loads, told[::2]), map(json.loads, told[1::2]), strict=True)
    return {(a["index"]["_index"], a["index"]["_id"]): _facts(document) for a, document in pairs}


def in_elasticsearch(address, table, prefix=""):
    """All documents of a table, by index and id."""
    place = f"{address}/{index_base(prefix, table)}-*"
    node = requests.Session()
    node.mount("http://", HTTPAdapter(max_retries=WHILE_SHARDS_START))
    node.post(f"{place}/_refresh", timeout=60).raise_for_status()
    query = {"size": PAGE, "sort": ["_doc"]}
    whole = f"{place}/_search?scroll=2m&allow_partial_search_results=false"
    answer = _answer(node.post(whole, json=query, timeout=60))
    found = {}
    while answer["hits"]["hits"]:
        for hit in answer["hits"]["hits"]:
            found[hit["_index"], hit["_id"]] = _facts(hit["_source"])
        again = {"scroll": "2m", "scroll_id": answer["_scroll_id"]}
        answer = _answer(node.post(f"{address}/_search/scroll", json=again, timeout=60))
    return found


def _answer(response):
    response.raise_for_status()
    return response.json()


def in_bigquery(settings, table):
    """All rows of a table's view, by date and key."""
    rest = RestClient(settings)
    try:
        query = f"SELECT * FROM {settings.dataset}.{table.name}_latest"
        rows = rest.client.query(query, retry=None, job_retry=None).result()
        return by_key(table, [_plain(dict(row)) for row in rows])
    finally:
        rest.close()


def by_key(table, rows):
    """Rows (dicts) by date and key; none twice."""
    found = {
        (row[table.time].astimezone(dt.UTC).date(), *(row[n] for n in table.key)): _facts(row)
        for row in rows
    }
    assert len(found) == len(rows), f"{table.name}: keys stand more than once"
    return found


def _plain(row):
    row.pop("event_date")
    if row.get("extras") is not None:
        row["extras"] = [(pair["key"], pair["value"]) for pair in row["extras"]]
    return row


def _facts(row):
    told = {name: value for name, value in row.items() if name not in (*OUR_OWN, "gone")}
    return told | ({"extras": None} if told.get("extras", 0) == [] else {})
