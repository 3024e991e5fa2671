"""Entry point of the contenders on the Flink client: pure SQL, or Python a row at a time."""

from __future__ import annotations

import json
import sys
from typing import Any

import rows  # shipped beside this file, to the workers too
from pyflink.common import Configuration, Types, WatermarkStrategy
from pyflink.common.serialization import ByteArraySchema
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetsInitializer,
    KafkaRecordSerializationSchema,
    KafkaSink,
    KafkaSource,
)
from pyflink.table import Schema, StreamTableEnvironment

PARTIAL = Types.ROW_NAMED(
    ["vehicle_id", "moment", "n", "speed_sum", "speed_min", "speed_max", "low", "high"],
    [Types.STRING(), Types.LONG(), Types.LONG(), *[Types.DOUBLE()] * 5],
)
MINUTES = """INSERT INTO minutes SELECT vehicle_id, window_start, SUM(n), SUM(speed_sum),
 MIN(speed_min), MAX(speed_max), MAX(high) - MIN(low)
FROM TABLE(TUMBLE(TABLE partials, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
GROUP BY vehicle_id, window_start, window_end"""


def environment(plan: dict[str, Any]) -> StreamExecutionEnvironment:
    """The Flink environment with the options of the plan."""
    configuration = Configuration()
    for name, value in plan["options"].items():
        configuration.set_string(name, value)
    return StreamExecutionEnvironment.get_execution_environment(configuration)


def run_sql(plan: dict[str, Any]) -> None:
    """Tables, then all inserts as one job."""
    tables = StreamTableEnvironment.create(environment(plan))
    for statement in plan["tables"]:
        tables.execute_sql(statement)
    inserts = tables.create_statement_set()
    for statement in plan["inserts"]:
        inserts.add_insert_sql(statement)
    inserts.execute()


def run_rows(plan: dict[str, Any]) -> None:
    """Decode, look up and encode one upload at a time in Python."""
    stream = environment(plan)
    source = (
        KafkaSource.builder()
        .set_bootstrap_servers(plan["brokers"])
        .set_topics(plan["topic"])
        .set_group_id("bench-rows")
        .set_starting_offsets(KafkaOffsetsInitializer.earliest())
        .set_value_only_deserializer(ByteArraySchema())
        .build()
    )
    uploads = stream.from_source(source, WatermarkStrategy.no_watermarks(), "device")
    if plan["work"] == "convert":
        done = uploads.map(rows.Convert(plan), Types.PRIMITIVE_ARRAY(Types.BYTE()))
        done.sink_to(sink(plan))
        stream.execute("rows-convert")
        return
    partials = uploads.flat_map(rows.Partials(plan), PARTIAL)
    to_minutes(stream, partials, plan)


def to_minutes(
    stream: StreamExecutionEnvironment, partials: DataStream, plan: dict[str, Any]
) -> None:
    """Windows of a minute, in the JVM. The watermark waits ten minutes: declared behind a Python
    function it mixes partitions, and a narrow one would drop windows."""
    tables = StreamTableEnvironment.create(stream)
    form = Schema.new_builder().column("vehicle_id", "STRING").column("moment", "BIGINT")
    form = form.column("n", "BIGINT")
    for name in ("speed_sum", "speed_min", "speed_max", "low", "high"):
        form = form.column(name, "DOUBLE")
    form = form.column_by_expression(
        "event_time", "CAST(TO_TIMESTAMP_LTZ(moment, 3) AS TIMESTAMP(3))"
    )
    form = form.watermark("event_time", "event_time - INTERVAL '10' MINUTE")
    tables.create_temporary_view("partials", tables.from_data_stream(partials, form.build()))
    for statement in plan["tables"]:
        tables.execute_sql(statement)
    inserts = tables.create_statement_set()
    inserts.add_insert_sql(MINUTES)
    inserts.execute()


def sink(plan: dict[str, Any]) -> KafkaSink:
    """Exactly once, without keys."""
    form = (
        KafkaRecordSerializationSchema.builder()
        .set_topic(plan["out"])
        .set_value_serialization_schema(ByteArraySchema())
        .build()
    )
    made = (
        KafkaSink.builder()
        .set_bootstrap_servers(plan["brokers"])
        .set_record_serializer(form)
        .set_delivery_guarantee(DeliveryGuarantee.EXACTLY_ONCE)
        .set_transactional_id_prefix("bench-rows")
    )
    for name, value in plan["producer"].items():
        made = made.set_property(name, value)
    return made.build()


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    {"sql": run_sql, "rows": run_rows}[plan["how"]](plan)
