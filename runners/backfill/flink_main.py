"""Entry point of a backfill on the Flink client: runs its phases on the cluster, one by one.

Started by `odograph submit backfill`, in the environment that has PyFlink.
"""

from __future__ import annotations

import json
import pickle
import re
import sys
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment

from connectors.errors import DependencyFailed
from pipelines.backfill.flink import Workers
from pipelines.backfill.phases import run
from runners.backfill.flink import EXPECTED, PHASE, FlinkBackfill
from runners.backfill.request import archived, with_names, write_ledger


def environment(backfill: FlinkBackfill) -> StreamExecutionEnvironment:
    """The execution environment with the backfill's settings."""
    configuration = Configuration()
    for name, value in backfill.flink_options().items():
        configuration.set_string(name, value)
    return StreamExecutionEnvironment.get_execution_environment(configuration)


def print_phase(phase: str, items: int, job: str) -> None:
    """Tell the command, which reads this output, which phase has begun."""
    print(PHASE + json.dumps({"name": phase, "items": items, "job": job}), flush=True)


def ledger_of(backfill: FlinkBackfill) -> dict[str, Any]:
    """Run the backfill. Raises what a local backfill raises."""
    spec = backfill.spec
    _ = spec.terminals  # bindings that cannot be read are named before anything is written
    listing = archived(spec)
    workers = Workers(environment(backfill), spec, backfill.parallelism, backfill.name, print_phase)
    try:
        ledger = run(spec, listing.objects, workers)
    except Py4JJavaError as error:
        failed = re.search(r"DependencyFailed: (.+)$", str(error), re.M)
        if failed is None:
            raise
        raise DependencyFailed(failed[1].strip()) from error
    write_ledger(ledger, spec)
    return with_names(ledger, listing)


def main(arguments: list[str]) -> None:
    """`arguments`: a file with the pickled FlinkBackfill, and a file for the answer."""
    backfill: FlinkBackfill = pickle.loads(Path(arguments[0]).read_bytes())
    try:
        answer: dict[str, object] = {"ledger": ledger_of(backfill)}
    except (DependencyFailed, *EXPECTED.values()) as error:
        answer = {"kind": type(error).__name__, "message": str(error)}
    Path(arguments[1]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
