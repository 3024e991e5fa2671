"""The steps of every live job as Flink would run them, without a cluster.

`python -m tests.java_parity.steps JAR` in the environment that has PyFlink prints JSON: by job, the
steps' uids with the class of each operator.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

from py4j.protocol import Py4JError
from pyflink.util.java_utils import add_jars_to_context_class_loader

from pipelines.live.flink.graph import Batching, Graph
from runners.config import Config
from runners.flink.live_job import BUILT_BY, LiveJob
from runners.flink.live_main import environment

SETTINGS = {
    "kafka": {"bootstrap": "kafka:9092"},
    "sinks": {
        "archive": {"folder": "/archive"},
        "lake": {"folder": "/lake"},
        "bigquery": {"project": "project", "dataset": "dataset"},
        "elasticsearch": {"hosts": ["http://elasticsearch:9200"]},
        "state": {},
    },
}


def operator(node: Any) -> str:
    """The class of a step's operator; of its factory where that makes one anew."""
    factory = node.getOperatorFactory()
    try:
        return str(factory.getOperator().getClass().getSimpleName())
    except Py4JError:
        return str(factory.getClass().getSimpleName())


def steps(job: str, jar: str) -> dict[str, str]:
    """Operators of a job by uid."""
    plan = LiveJob(job=job, config=Config.model_validate(SETTINGS), python=sys.executable)
    graph = Graph(environment(plan), Batching(1, 1, 1), plan.uid_prefix)
    add_jars_to_context_class_loader([f"file://{jar}"])
    build = import_module(BUILT_BY[job]).build
    build(graph, plan.live(), "earliest", plan.transactions)
    nodes = graph.environment._generate_stream_graph(True, job).getStreamNodes().toArray()
    return {str(node.getTransformationUID()): operator(node) for node in nodes}


if __name__ == "__main__":
    print(json.dumps({job: steps(job, sys.argv[1]) for job in BUILT_BY}))
