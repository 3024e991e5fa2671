"""A backfill on a Flink cluster: the order for its client, and how it is followed from here."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from connectors.errors import BadArguments, BadSettings, DependencyFailed
from connectors.operations_db.bindings_file import BadBindings
from pipelines.backfill.spec import BackfillSpec
from runners.backfill.lake_lock import lake_lock
from runners.backfill.request import checked, with_spool
from runners.flink.client import client, end_of_output
from runners.flink.rest import Cluster
from runners.progress import counting

MAIN = Path(__file__).parent / "flink_main.py"
PHASE = "odograph phase "
EXPECTED = {kind.__name__: kind for kind in (BadArguments, BadBindings, BadSettings)}
END_S = 60


@dataclass(frozen=True)
class FlinkBackfill:
    """A backfill and how the cluster runs it: Python on its workers, how many of them, and
    `options` of its jobs by Flink's names, which win over those that Odograph sets."""

    spec: BackfillSpec
    python: str
    parallelism: int
    options: Mapping[str, str]

    @property
    def name(self) -> str:
        """How the cluster calls it; each phase is a job, called so and by the phase."""
        return f"odograph-backfill of {self.spec.lake}"

    def flink_options(self) -> dict[str, str]:
        """All settings of its jobs by Flink's names."""
        return {
            "execution.runtime-mode": "BATCH",
            "execution.batch.adaptive.auto-parallelism.enabled": "false",
            "python.executable": self.python,
            "python.fn-execution.bundle.size": "1",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": "3",
            "restart-strategy.fixed-delay.delay": "5s",
            **self.options,
        }


def run(backfill: FlinkBackfill, cluster: Cluster) -> dict[str, Any]:
    """Run it to its end and return the ledger; when this is left early, so is the cluster.

    Raises BadArguments where a backfill into the same lake is running already, or device topics
    are to be read; and what `run_backfill` raises.
    """
    spec = checked(backfill.spec)
    if spec.reads_kafka:
        raise BadArguments(f"--archive {spec.archive}: only `odograph backfill` reads Kafka")
    backfill = replace(backfill, spec=spec)
    running = _running(backfill, cluster)
    if running:
        raise BadArguments(
            f"--lake {spec.lake}: {running[0].name} runs on {cluster.url} ({running[0].id})"
        )
    with with_spool(spec, local=False) as spec, lake_lock(spec.tables, spec.spool):
        ledger = _followed(replace(backfill, spec=spec), cluster)
        spec.tables.sweep()  # of what lost workers left half written
        return ledger


def _followed(backfill: FlinkBackfill, cluster: Cluster) -> dict[str, Any]:
    with client(cluster.url) as flink:
        order, answer = flink.folder / "backfill.pickle", flink.folder / "answer.json"
        order.write_bytes(pickle.dumps(backfill))
        command = flink.command(
            *("-pyexec", backfill.python, "-py", str(MAIN), str(order), str(answer))
        )
        with _child(command, flink.environment, backfill, cluster) as child:
            output = list(_shown(child.stdout, cluster))
            child.wait()
        if not answer.exists():
            raise RuntimeError(
                f"the Flink client ended with {child.returncode}:\n{end_of_output(output)}"
            )
        outcome: dict[str, Any] = json.loads(answer.read_text())
    if "ledger" in outcome:
        return dict(outcome["ledger"])
    raise EXPECTED.get(outcome["kind"], DependencyFailed)(outcome["message"])


@contextmanager
def _child(
    command: list[str], environment: dict[str, str], backfill: FlinkBackfill, cluster: Cluster
) -> Iterator[subprocess.Popen[str]]:
    """The client, in a session of its own: an interrupt meets this process, which ends the
    client and then its job, so that nothing writes once the lake is let go."""
    child = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        yield child
    except BaseException:
        os.killpg(child.pid, 9)
        child.wait()
        for job in _running(backfill, cluster):
            cluster.end(job, END_S)
        raise


def _running(backfill: FlinkBackfill, cluster: Cluster) -> list[Any]:
    return [job for job in cluster.jobs() if job.alive and job.name.startswith(backfill.name + ":")]


def _shown(lines: Any, cluster: Cluster) -> Iterator[str]:
    """Lines of the client's output, without those on phases, which become a bar of progress."""
    with counting() as show:
        for line in lines:
            if not line.startswith(PHASE):
                yield line
                continue
            phase = json.loads(line.removeprefix(PHASE))
            show(phase["name"], phase["items"], partial(cluster.records_taken, phase["job"]))
