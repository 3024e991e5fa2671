"""Entry point of a backfill on the Flink client: runs its phases on the cluster, one by one.

Started by `odograph submit backfill`, in the environment that has PyFlink.
"""

from __future__ import annotations

import json
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
from runners.backfill.flink import EXPECTED, PHASE, Backfill
from runners.backfill.request import archived, job_of, with_names, write_ledger


def environment(backfill: Backfill) -> StreamExecutionEnvironment:
    """The execution environment with the backfill's settings."""
    configuration = Configuration()
    for name, value in backfill.flink_options().items():
        configuration.set_string(name, value)
    return StreamExecutionEnvironment.get_execution_environment(configuration)


def tell(phase: str, items: int, job: str) -> None:
    """Let the command know what is going on."""
    print(PHASE + json.dumps({"name": phase, "items": items, "job": job}), flush=True)


def ledger_of(backfill: Backfill) -> dict[str, Any]:
    """Run it. Raises what a local backfill raises."""
    given = backfill
    places = (given.archive, given.bindings, given.lake, given.spool)
    job = job_of(*places, given.types, given.config, given.stores)
    listing = archived(job, given.start, given.end)
    workers = Workers(environment(given), job, given.parallelism, given.name, tell)
    try:
        ledger = run(job, listing.objects, workers)
    except Py4JJavaError as error:
        failed = re.search(r"DependencyFailed: (.+)$", str(error), re.M)
        if failed is None:
            raise
        raise DependencyFailed(failed[1].strip()) from error
    write_ledger(ledger, job)
    return with_names(ledger, listing)


def main(arguments: list[str]) -> None:
    """`arguments`: the backfill as JSON in a file, and a file for the answer."""
    backfill = Backfill.model_validate_json(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        answer: dict[str, object] = {"ledger": ledger_of(backfill)}
    except (DependencyFailed, *EXPECTED.values()) as error:
        answer = {"kind": type(error).__name__, "message": str(error)}
    Path(arguments[1]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
