"""How a job's stages become a Flink graph: batches made in the JVM, Python between, rows again.

Every operator has a fixed uid, so that a savepoint of today restores after a change of code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyflink.common import Types, WatermarkStrategy
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.datastream.functions import MapFunction
from pyflink.java_gateway import get_gateway

from pipelines.live.stage import Stage
from schemas.layouts import as_text

UID_DEVICE_TOPICS = "device topics"
UID_BATCH = "batch"
UID_KAFKA = "kafka"
"""Of steps that several jobs have. A uid stays as it is, whatever the step is called in code."""
BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())


def java() -> Any:
    """The Java classes of the jobs (package `odograph.flink`)."""
    return get_gateway().jvm.odograph.flink


class _Python(MapFunction):
    """A stage as Flink wants it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def open(self, runtime_context: Any) -> None:
        self.stage.open()
        metrics = runtime_context.get_metrics_group()
        for name, read in self.stage.gauges().items():
            metrics.gauge(name, read)

    def map(self, value: bytes) -> bytes:
        return self.stage(value)


@dataclass(frozen=True)
class Batching:
    """When rows waiting for Python are handed on: at so many rows, bytes, or milliseconds."""

    rows: int
    size_bytes: int
    ms: int


@dataclass(frozen=True)
class Graph:
    """Builds one job; every step's uid is its name behind `uid_prefix`."""

    environment: StreamExecutionEnvironment
    batching: Batching
    uid_prefix: str = ""

    def device_records(
        self, topics: Sequence[str], properties: Mapping[str, str], start_at: str
    ) -> DataStream:
        """Records of device topics, as blocks of their exact bytes."""
        return self._blocks(UID_DEVICE_TOPICS, UID_BATCH, topics, properties, start_at)

    def records(
        self, name: str, topics: Sequence[str], properties: Mapping[str, str], start_at: str
    ) -> DataStream:
        """Records of other topics in the same way."""
        return self._blocks(name, f"{UID_BATCH} {name}", topics, properties, start_at)

    def _blocks(
        self,
        name: str,
        batch_name: str,
        topics: Sequence[str],
        properties: Mapping[str, str],
        start_at: str,
    ) -> DataStream:
        kafka = java().Kafka
        source = kafka.source(list(topics), dict(properties), start_at)
        no_watermarks = WatermarkStrategy.no_watermarks()._j_watermark_strategy
        rows = self.environment._j_stream_execution_environment.fromSource(
            source, no_watermarks, name
        )
        rows.uid(self._uid(name))
        batch = java().BatchRows(
            kafka.DEVICE_RECORD, self.batching.rows, self.batching.size_bytes, self.batching.ms
        )
        return self.transform(DataStream(rows), batch_name, BYTES.get_java_type_info(), batch)

    def _uid(self, name: str) -> str:
        return f"{self.uid_prefix}{name}"

    def transform(self, stream: DataStream, name: str, type_info: Any, operator: Any) -> DataStream:
        """A step written in Java."""
        done = DataStream(stream._j_data_stream.transform(name, type_info, operator))
        done._j_data_stream.uid(self._uid(name))
        return done

    def python(self, blocks: DataStream, name: str, stage: Stage) -> list[DataStream]:
        """A stage written in Python, from blocks to the rows of its outputs."""
        outputs = blocks.map(_Python(stage), BYTES).name(name).uid(self._uid(name))
        unbatch = java().UnbatchRows([as_text(columns) for columns in stage.OUTPUTS])
        first = self.transform(outputs, f"{name}: rows", unbatch.tag(0).getTypeInfo(), unbatch)
        others = [
            self.side_output(first, unbatch.tag(number)) for number in range(1, len(stage.OUTPUTS))
        ]
        return [first, *others]

    def side_output(self, stream: DataStream, tag: Any) -> DataStream:
        """The rows that a step written in Java hands on under a tag."""
        return DataStream(stream._j_data_stream.getSideOutput(tag))

    def keyed(
        self, rows: DataStream, key: Any, name: str, type_info: Any, operator: Any
    ) -> DataStream:
        """A step written in Java that remembers by key."""
        text = Types.STRING().get_java_type_info()
        keyed = DataStream(rows._j_data_stream.keyBy(key, text))
        return self.transform(keyed, name, type_info, operator)

    def to_kafka(self, rows: DataStream, properties: Mapping[str, str], transactions: str) -> None:
        """Write Kafka records in the transactions of the checkpoints."""
        sink = java().Kafka.sink(dict(properties), transactions)
        rows._j_data_stream.sinkTo(sink).name(UID_KAFKA).uid(self._uid(UID_KAFKA))
