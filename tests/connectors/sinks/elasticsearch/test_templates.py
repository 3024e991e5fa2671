"""Mappings come from the columns, and `prepare` may be repeated."""

import urllib.error

import pyarrow as pa
import pytest

from connectors.errors import BadSettings, DependencyFailed
from connectors.sinks.elasticsearch.client import connect
from connectors.sinks.elasticsearch.templates import has_lifecycles, mapping, template
from connectors.sinks.tables import TABLES, TELEMETRY
from runners.stack.faults.rules import Answer
from tests.connectors.sinks.elasticsearch.rows import GPS, LOG, row, table_of

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_every_column_is_mapped_and_nothing_else(store, table):
    fields = template(store.settings(), table)["template"]["mappings"]["properties"]
    points = {name for name, kind in fields.items() if kind["type"] == "geo_point"}
    columns = {name for name in table.columns.names if not name.endswith(("lat_deg", "lon_deg"))}
    assert fields.keys() - points == columns | {"revision"}
    assert len(points) == sum(name.endswith("lat_deg") for name in table.columns.names)


def test_types_follow_from_those_of_columns():
    columns = pa.schema(
        {
            "a": pa.string(),
            "b": pa.timestamp("ms", "UTC"),
            "c": pa.list_(pa.string()),
            "d": pa.list_(pa.float32()),
            "e": pa.map_(pa.string(), pa.string()),
            "lat_deg": pa.float64(),
            "lon_deg": pa.float64(),
            "f": pa.bool_(),
        }
    )
    fields = mapping(columns)["properties"]
    kinds = {name: kind["type"] for name, kind in fields.items()}
    assert kinds == {
        "a": "keyword",
        "b": "date",
        "c": "keyword",
        "d": "float",
        "e": "flattened",
        "f": "boolean",
        "location": "geo_point",
    }
    assert fields["d"]["index"] is False


def test_the_node_takes_every_template_and_takes_it_again(store):
    sink = store.sink()
    sink.prepare(list(TABLES.values()))
    sink.prepare(list(TABLES.values()))
    rows = table_of(GPS, [row(GPS, "a")])
    sink.write(GPS, rows)
    index = store.ask("GET", "telemetry-gps-2026.03.10")[f"{store.prefix}telemetry-gps-2026.03.10"]
    settings = index["settings"]["index"]
    assert settings["codec"] == "best_compression"
    assert settings["refresh_interval"] == "5s"
    assert index["mappings"]["dynamic"] == "false"
    assert index["mappings"]["properties"]["location"]["type"] == "geo_point"
    assert list(index["aliases"]) == [f"{store.prefix}telemetry-gps"]


def test_templates_of_prefixes_do_not_meet(store):
    names = {template(store.settings(), table)["index_patterns"][0] for table in TABLES.values()}
    assert len(names) == len(TABLES)
    assert all(name.startswith(store.prefix) for name in names)


def test_a_field_of_another_type_is_told_before_anything_is_written(store):
    wrong = {"mappings": {"properties": {"speed_kmh": {"type": "keyword"}}}}
    store.ask("PUT", "telemetry-log-2026.03.10", wrong)
    with pytest.raises(DependencyFailed, match=r"speed_kmh.*another index_prefix"):
        store.sink().prepare([LOG])


def test_an_index_of_vehicles_that_was_deleted_comes_back_as_it_was(store):
    sink = store.sink()
    before = store.ask("GET", "vehicles?features=mappings")
    store.ask("DELETE", "vehicles")
    sink.write(LOG, table_of(LOG, [row(LOG, "a", speed_kmh=1.0)]))
    assert store.vehicle()["speed_kmh"] == 1.0
    assert store.ask("GET", "vehicles?features=mappings") == before
    store.sink()


def test_preparing_is_patient(store, proxy):
    proxy.rule("PUT", "", Answer(503), times=3)
    store.sink()
    with pytest.raises(urllib.error.HTTPError):
        store.ask("GET", "telemetry-gps-2026.03.10")
    assert store.ask("GET", "vehicles")


def test_ilm_is_offered_only_where_it_is(store, proxy):
    assert not has_lifecycles(connect(store.settings()))
    with pytest.raises(BadSettings, match=r"has no ILM.*prune"):
        store.sink(lifecycle_policy="a-week")
    proxy.rule("GET", "/_ilm/status", Answer(200, b'{"operation_mode":"RUNNING"}', PRODUCT))
    assert has_lifecycles(connect(store.settings()))
    wanted = template(store.settings(lifecycle_policy="a-week"), TELEMETRY["gps"])
    assert wanted["template"]["settings"]["index"]["lifecycle.name"] == "a-week"


PRODUCT = {"X-Elastic-Product": "Elasticsearch", "Content-Type": "application/json"}
