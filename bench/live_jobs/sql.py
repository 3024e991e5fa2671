"""The pure Flink SQL contender: the statements that convert and aggregate."""

from __future__ import annotations

import copy
import json
from typing import Any

from bench.live_jobs.uploads import Kind
from runners.config import Config
from schemas import load

BINDINGS_TOPIC = "bench-bindings"
SINKS = """'properties.linger.ms'='20','properties.batch.size'='262144',
  'properties.compression.type'='lz4','properties.transaction.timeout.ms'='900000',
  'sink.delivery-guarantee'='exactly-once','sink.transactional-id-prefix'='{prefix}'"""
PLAIN = {
    "string": "STRING",
    "long": "BIGINT",
    "int": "INT",
    "double": "DOUBLE",
    "float": "FLOAT",
    "boolean": "BOOLEAN",
}


def output_topics(kind: Kind) -> tuple[str, str]:
    """Where it writes vehicle messages and minutes."""
    return f"sql-vehicle-{kind.message_type}", f"sql-minutes-{kind.message_type}"


def sql_type(avro: Any) -> str:
    """The type that Flink wants for an Avro type; enums as texts."""
    if isinstance(avro, list):
        (other,) = [branch for branch in avro if branch != "null"]
        return sql_type(other).removesuffix(" NOT NULL")
    if isinstance(avro, str):
        return f"{PLAIN[avro]} NOT NULL"
    if avro.get("logicalType") == "timestamp-millis":
        return "TIMESTAMP(3) NOT NULL"
    kind = avro["type"]
    if kind == "enum":
        return "STRING NOT NULL"
    if kind == "map":
        return f"MAP<STRING NOT NULL, {sql_type(avro['values'])}> NOT NULL"
    if kind == "array":
        return f"ARRAY<{sql_type(avro['items'])}> NOT NULL"
    if kind == "record":
        fields = ", ".join(f"{f['name']} {sql_type(f['type'])}" for f in avro["fields"])
        return f"ROW<{fields}> NOT NULL"
    return sql_type(kind)


ONCE = """CREATE TEMPORARY VIEW once AS SELECT * FROM (SELECT *,
 ROW_NUMBER() OVER (PARTITION BY message_id ORDER BY came) AS copy FROM device) WHERE copy = 1"""
"""The first copy of each upload, as far as the state reaches."""


def statements(
    kind: Kind, config: Config, work: tuple[str, ...], once: bool = False
) -> tuple[list[str], list[str]]:
    """Tables and views, and one INSERT for each of `work` (convert, aggregate). Copies of an
    upload do not count where each is to count `once`."""
    avro = load(f"message_{kind.message_type}").avro
    tables = [_device(kind, avro, config), _bindings(config)]
    tables += [ONCE, _enriched(avro, "once")] if once else [_enriched(avro, "device")]
    if kind.samples > 1:
        tables.append(SAMPLES)
    vehicles, minutes = output_topics(kind)
    inserts = []
    if "convert" in work:
        names = [field["name"] for field in avro["fields"]]
        columns = {n: sql_type(f["type"]) for n, f in zip(names, avro["fields"], strict=True)}
        columns |= {"vehicle_id": "STRING", "binding_version": "BIGINT"}
        tables.append(_sink("vehicles", columns, vehicles, config))
        inserts.append(f"INSERT INTO vehicles SELECT {', '.join(columns)} FROM enriched")
    if "aggregate" in work:
        columns = {"vehicle_id": "STRING", "window_start": "TIMESTAMP(3)", "n": "BIGINT"}
        columns |= dict.fromkeys(("speed_sum", "speed_min", "speed_max", "way"), "DOUBLE")
        tables.append(_sink("minutes", columns, minutes, config))
        inserts.append(_minutes(kind))
    return tables, inserts


def _minutes(kind: Kind) -> str:
    way, rows = "MAX(odometer_m) - MIN(odometer_m)", "enriched"
    if kind.samples > 1:
        way = "MAX(lat_deg) - MIN(lat_deg)"
        rows = "samples_of"
    return f"""INSERT INTO minutes SELECT vehicle_id, window_start, COUNT(*),
 SUM(CAST(speed_kmh AS DOUBLE)), CAST(MIN(speed_kmh) AS DOUBLE), CAST(MAX(speed_kmh) AS DOUBLE),
 CAST({way} AS DOUBLE)
FROM TABLE(TUMBLE(TABLE {rows}, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
WHERE vehicle_id IS NOT NULL GROUP BY vehicle_id, window_start, window_end"""


SAMPLES = """CREATE TEMPORARY VIEW samples_of AS
SELECT vehicle_id, event_time, s.speed_kmh AS speed_kmh, s.lat_deg AS lat_deg
FROM enriched CROSS JOIN UNNEST(samples) AS s"""
"""One row a sample, at the time of its upload."""


def _device(kind: Kind, avro: dict[str, Any], config: Config) -> str:
    columns = ", ".join(f"{f['name']} {sql_type(f['type'])}" for f in avro["fields"])
    newest = "device_time" if kind.samples == 1 else "samples[CARDINALITY(samples)].device_time"
    return f"""CREATE TABLE device ({columns}, event_time AS {newest}, came AS PROCTIME(),
  WATERMARK FOR event_time AS event_time - INTERVAL '20' SECOND
) WITH ('connector'='kafka','topic'='{kind.topic}',
  'properties.bootstrap.servers'='{config.kafka.bootstrap}','properties.group.id'='bench-sql',
  'scan.startup.mode'='earliest-offset','value.format'='avro-confluent',
  'value.avro-confluent.url'='{config.registry.url}',
  'value.avro-confluent.schema'='{json.dumps(_bare(avro))}')"""


def _bare(avro: Any) -> Any:
    """The schema without texts, in which quotes would end the statement."""
    if isinstance(avro, list):
        return [_bare(one) for one in avro]
    if not isinstance(avro, dict):
        return avro
    kept = {"type", "name", "namespace", "fields", "symbols", "items", "values", "logicalType"}
    found = {key: _bare(copy.deepcopy(value)) for key, value in avro.items() if key in kept}
    if "default" in avro:
        found["default"] = avro["default"]
    return found


def _bindings(config: Config) -> str:
    return f"""CREATE TABLE binding (device_no STRING, vehicle_id STRING, valid_from BIGINT,
  valid_to BIGINT, binding_version BIGINT,
  since AS CAST(TO_TIMESTAMP_LTZ(valid_from, 3) AS TIMESTAMP(3)),
  WATERMARK FOR since AS since, PRIMARY KEY (device_no) NOT ENFORCED
) WITH ('connector'='upsert-kafka','topic'='{BINDINGS_TOPIC}',
  'properties.bootstrap.servers'='{config.kafka.bootstrap}',
  'key.format'='raw','value.format'='json','scan.bounded.mode'='latest-offset')"""


def _enriched(avro: dict[str, Any], uploads: str) -> str:
    own = ", ".join(f"t.{field['name']}" for field in avro["fields"])
    return f"""CREATE TEMPORARY VIEW enriched AS SELECT {own}, t.event_time,
 CASE WHEN t.event_time < CAST(TO_TIMESTAMP_LTZ(b.valid_to, 3) AS TIMESTAMP(3))
  THEN b.vehicle_id END AS vehicle_id, b.binding_version
FROM {uploads} t LEFT JOIN binding FOR SYSTEM_TIME AS OF t.event_time AS b
 ON t.device_no = b.device_no"""


def _sink(name: str, columns: dict[str, str], topic: str, config: Config) -> str:
    declared = ", ".join(f"{column} {kind}" for column, kind in columns.items())
    return f"""CREATE TABLE {name} ({declared}) WITH ('connector'='kafka','topic'='{topic}',
  'properties.bootstrap.servers'='{config.kafka.bootstrap}',
  'key.format'='raw','key.fields'='vehicle_id','value.format'='avro-confluent',
  'value.avro-confluent.url'='{config.registry.url}',
  {SINKS.format(prefix=f"bench-{topic}")})"""
