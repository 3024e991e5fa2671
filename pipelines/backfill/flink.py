"""The phases of a backfill as bounded Flink jobs, one after another: Flink hands numbers to its
workers, and what they stand for waits in the spool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyflink.common import Types, WatermarkStrategy
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.connectors.number_seq import NumberSequenceSource
from pyflink.datastream.functions import MapFunction
from pyflink.java_gateway import get_gateway

from pipelines.backfill.phases import work, work_items_of
from pipelines.backfill.spec import BackfillSpec


class _Worker(MapFunction):
    """Does the items of a phase that Flink gives it."""

    def __init__(self, spec: BackfillSpec, phase: str) -> None:
        self.spec = spec
        self.phase = phase

    def open(self, runtime_context: Any) -> None:
        self.shared = work_items_of(self.spec, self.phase).shared()

    def map(self, value: int) -> int:
        work(self.spec, self.phase, value, self.shared)
        return value


@dataclass(frozen=True)
class Workers:
    """Spreads the items of a phase over `parallelism` workers of a cluster and waits for them.

    `on_start` gets each phase, its number of items and the id of its job.
    """

    environment: StreamExecutionEnvironment
    spec: BackfillSpec
    parallelism: int
    name: str
    on_start: Callable[[str, int, str], None]

    def __call__(self, phase: str, count: int) -> None:
        """Do items 0 to `count` - 1. Raises what the engine raises when the job fails for good."""
        numbers = self.environment.from_source(
            NumberSequenceSource(0, count - 1),
            WatermarkStrategy.no_watermarks(),
            "numbers",
            Types.LONG(),
        ).set_parallelism(1)
        done = numbers.rebalance().map(_Worker(self.spec, phase), Types.LONG())
        done = done.name(phase).set_parallelism(min(self.parallelism, count))
        discarding = get_gateway().jvm.org.apache.flink.streaming.api.functions.sink.v2
        sink = done._j_data_stream.sinkTo(discarding.DiscardingSink())
        sink.name("done").setParallelism(min(self.parallelism, count))
        client = self.environment.execute_async(f"{self.name}: {phase}")
        self.on_start(phase, count, str(client.get_job_id()))
        client.get_job_execution_result().result()
