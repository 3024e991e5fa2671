"""Entry point of a live job on the Flink client: builds the graph and hands it to the cluster.

Started by `odograph submit`, in the environment that has PyFlink.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment

from pipelines.live.flink.graph import Batching, Graph
from runners.flink.live_job import BUILT_BY, LiveJob


def environment(plan: LiveJob) -> StreamExecutionEnvironment:
    """The execution environment with the plan's settings."""
    configuration = Configuration()
    for name, value in plan.flink_options().items():
        configuration.set_string(name, value)
    return StreamExecutionEnvironment.get_execution_environment(configuration)


def main(arguments: list[str]) -> None:
    """`arguments`: the plan as JSON in a file."""
    with open(arguments[0], encoding="utf-8") as file:
        plan = LiveJob.model_validate(json.load(file))
    stream = plan.config.stream
    batching = Batching(stream.batch_records, stream.batch_bytes, max(1, plan.linger_ms))
    graph = Graph(environment(plan), batching, plan.uid_prefix)
    build = import_module(BUILT_BY[plan.job]).build
    build(graph, plan.live(), plan.start_at, plan.transactions)
    graph.environment.execute(plan.job_name)


if __name__ == "__main__":
    main(sys.argv[1:])
