"""A backfill on a Flink cluster: what its client is told, and how it is followed from here."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from connectors.errors import BadArguments, BadSettings, DependencyFailed
from connectors.operations_db.bindings_file import BadBindings
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from runners.backfill.lake_lock import lake_lock
from runners.backfill.request import (
    checked_archive,
    checked_span,
    spool_of,
    stores_of,
    wanted_types,
)
from runners.config import Config
from runners.flink.client import client, end_of_output
from runners.flink.rest import Cluster
from runners.progress import counting

MAIN = Path(__file__).parent / "flink_main.py"
PHASE = "odograph phase "
EXPECTED = {kind.__name__: kind for kind in (BadArguments, BadBindings, BadSettings)}
END_S = 60


class Backfill(BaseModel):
    """A backfill as its client is told it; all places are whole uris, as workers see them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    archive: str
    bindings: str
    lake: str
    types: tuple[str, ...]
    start: datetime | None
    end: datetime | None
    config: Config
    python: str
    parallelism: int
    stores: tuple[str, ...] = ()
    spool: str = ""

    @property
    def name(self) -> str:
        """How the cluster calls it; each phase is a job, called so and by the phase."""
        return f"odograph-backfill of {self.lake}"

    def flink_options(self) -> dict[str, str]:
        """Settings of its jobs by Flink's names; those of the settings file come last."""
        return {
            "execution.runtime-mode": "BATCH",
            "execution.batch.adaptive.auto-parallelism.enabled": "false",
            "python.executable": self.python,
            "python.fn-execution.bundle.size": "1",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": "3",
            "restart-strategy.fixed-delay.delay": "5s",
        } | self.config.flink.options


def plan(
    archive: str,
    bindings: str,
    lake: str,
    types: Sequence[str],
    start: datetime | None,
    end: datetime | None,
    config: Config,
    python: str,
    parallelism: int,
    stores: Sequence[str] = (),
) -> Backfill:
    """The same, checked. Raises BadArguments or DependencyFailed."""
    settings = config.s3.settings()
    stores_of(stores, config)
    checked_span(start, end)
    wanted = wanted_types(types)
    here = {
        name: value if value is None else _whole(value, settings)
        for name, value in {"schemas": config.schemas, "spool": config.spool}.items()
    }
    return Backfill(
        archive=checked_archive(archive, settings),
        bindings=_whole(bindings, settings),
        lake=_whole(lake, settings),
        types=wanted,
        start=start,
        end=end,
        config=config.model_copy(update=here),
        python=python,
        parallelism=parallelism,
        stores=tuple(stores),
    )


def run(backfill: Backfill, cluster: Cluster) -> dict[str, Any]:
    """Run it to its end and return the ledger; when this is left early, so is the cluster.

    Raises BadArguments where one into the same lake is running already, and what a local
    backfill raises.
    """
    running = _running(backfill, cluster)
    if running:
        raise BadArguments(
            f"--lake {backfill.lake}: {running[0].name} runs on {cluster.url} ({running[0].id})"
        )
    lake = folder(backfill.lake, backfill.config.s3.settings())
    with spool_of(backfill.config, backfill.lake, local=False) as spool, lake_lock(lake, spool):
        ledger = _followed(backfill.model_copy(update={"spool": spool}), cluster)
        lake.sweep()  # of what lost workers left half written
        return ledger


def _followed(backfill: Backfill, cluster: Cluster) -> dict[str, Any]:
    with client(cluster.url) as flink:
        order, answer = flink.folder / "backfill.json", flink.folder / "answer.json"
        order.write_text(backfill.model_dump_json())
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
        given: dict[str, Any] = json.loads(answer.read_text())
    if "ledger" in given:
        return dict(given["ledger"])
    raise EXPECTED.get(given["kind"], DependencyFailed)(given["message"])


@contextmanager
def _child(
    command: list[str], environment: dict[str, str], backfill: Backfill, cluster: Cluster
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


def _running(backfill: Backfill, cluster: Cluster) -> list[Any]:
    return [job for job in cluster.jobs() if job.alive and job.name.startswith(backfill.name + ":")]


def _shown(lines: Any, cluster: Cluster) -> Iterator[str]:
    """What the client says, without its word on phases, which becomes a bar of progress."""
    with counting() as show:
        for line in lines:
            if not line.startswith(PHASE):
                yield line
                continue
            phase = json.loads(line.removeprefix(PHASE))
            show(phase["name"], phase["items"], partial(cluster.records_taken, phase["job"]))


def _whole(place: str, settings: S3Settings) -> str:
    return folder(place, settings).uri
