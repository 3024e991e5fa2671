"""A fleet on the real servers, driven by the command a person would use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from confluent_kafka.admin import AdminClient

from connectors.kafka.client import client_properties, end_offsets
from connectors.operations_db.bindings_file import load_bindings
from connectors.storage.settings import S3Settings
from pipelines.live.spec import DEVICE_TOPICS
from runners.config import Config, load_config
from runners.flink.rest import Cluster, Job
from runners.stack.servers.flink import Flink
from tests.cluster import oracle
from tests.support import command

PATIENCE_S = 600
"""How long a live job may take to reach what it must: generous, because machines are slow; a
right one is there much sooner."""


def odograph(*arguments: object, fails: bool = False) -> str:
    """Run the command; its output. Asserts that it succeeds, unless it `fails`."""
    done = command.odograph(*arguments)
    assert (done.returncode != 0) == fails, (
        f"{done.args}: {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout + done.stderr


def until(reached: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait until `reached` returns something true and return that."""
    deadline = time.monotonic() + patience_s
    while True:
        began = time.monotonic()
        found = reached()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {patience_s:g} s: {what}"
        time.sleep(max(1.0, 2 * (time.monotonic() - began)))


def python_workers(flink: Flink) -> list[psutil.Process]:
    """The processes of the jobs' Python steps on TaskManager 1. What else runs below it, while it
    starts, it cannot start without."""
    manager, found = flink.task_manager(1).running(), []
    for one in manager.children(recursive=True) if manager else []:
        with suppress(psutil.NoSuchProcess):
            if any(word.startswith("pyflink.fn_execution") for word in one.cmdline()):
                found.append(one)
    return found


def kill_workers(flink: Flink) -> int:
    """Kill them; how many."""
    killed = 0
    for one in python_workers(flink):
        with suppress(psutil.NoSuchProcess):
            one.kill()
            killed += 1
    return killed


@dataclass
class Fleet:
    """Settings file, servers and the cluster's REST interface; `bindings` is a file."""

    servers: dict[str, Any]
    settings: Path
    bindings: Path
    config: Config
    cluster: Cluster

    @classmethod
    @contextmanager
    def fresh(cls, servers: dict[str, Any], folder: Path, **changes: Any) -> Iterator[Fleet]:
        """Fresh topics and schemas; `changes` are sections of the settings file, which sets no
        sinks but those."""
        stack = servers["flink"].folder.parent / "odograph.yaml"
        given = yaml.safe_load(stack.read_text())
        given.pop("sinks", None)
        given["flink"] |= {
            "checkpoint_interval_s": 2,
            "checkpoints": (folder / "checkpoints").as_uri(),
            "savepoints": (folder / "savepoints").as_uri(),
        }
        for section, values in changes.items():
            given.setdefault(section, {}).update(values)
        settings = folder / "odograph.yaml"
        settings.write_text(yaml.safe_dump(given))
        config = load_config(str(settings))
        one = cls(
            servers, settings, folder / "device_binding.csv", config, Cluster(config.flink.url)
        )
        flink = servers["flink"]
        if flink.task_manager(1).running() is None:
            flink.start_task_manager(1)
            flink.ready()
        one.cancel_all()
        one._fresh_topics()
        odograph("schemas", "register", "--config", settings)
        try:
            yield one
        finally:
            one.cancel_all()

    def _fresh_topics(self) -> None:
        admin = AdminClient(client_properties(self.config.kafka))
        ours = [name for name in admin.list_topics(timeout=15).topics if not name.startswith("_")]
        if ours:
            for done in admin.delete_topics(ours).values():
                done.result()

        def gone() -> bool:
            return not set(ours) & set(admin.list_topics(timeout=15).topics)

        until(gone, "topics are deleted")
        odograph("topics", "apply", "--config", self.settings)

    def cancel_all(self) -> None:
        """End every job of the cluster."""
        for job in self.cluster.jobs():
            if job.alive:
                self.cluster.cancel(job)
        until(lambda: not any(job.alive for job in self.cluster.jobs()), "jobs are cancelled")

    def simulate(self, folder: Path, *arguments: object) -> None:
        """Feed the device topics with a simulated fleet; its bindings become this fleet's."""
        odograph("simulate", "--config", self.settings, "--out", folder, *arguments)
        self.bindings.write_bytes((folder / "device_binding.csv").read_bytes())

    def submit(self, job: str, *arguments: object) -> None:
        """Start a job (such as `convert`, `sink lake`) from the earliest record, on the fleet's
        bindings file."""
        told = [str(argument) for argument in arguments]
        start = [] if "--from-savepoint" in told else ["--start-at", "earliest"]
        odograph(
            "submit",
            *job.split(),
            "--config",
            self.settings,
            "--bindings",
            self.bindings,
            *start,
            *told,
        )

    def stop(self, job: str) -> str:
        """Stop a job with a savepoint; where that lies."""
        return odograph("jobs", "stop", job, "--config", self.settings).split()[-1]

    def job(self, name: str) -> Job:
        """A job that is alive."""
        return self.cluster.need(f"odograph-{name}")

    def batch(self) -> oracle.Batch:
        """What a batch over everything that was sent comes to."""
        terminals = load_bindings(str(self.bindings), S3Settings())
        config = self.config
        return oracle.Batch.of(
            config.kafka, config.registry, terminals.bindings, terminals.known, config.rules
        )

    def reaches_the_minutes_of(self, batch: oracle.Batch) -> None:
        """Wait until the newest revision of every live minute is the batch's."""
        expected = batch.minutes()
        told: list[str] = []

        def equal() -> bool:
            told[:] = oracle.differences(oracle.live_minutes(self.config.kafka), expected)
            return not told

        try:
            until(equal, "live minutes equal the batch's")
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *told])) from None

    def sent(self) -> int:
        """Records on the device topics."""
        return sum(end_offsets(self.config.kafka, DEVICE_TOPICS).values())

    def committed(self, topics: Iterable[str]) -> int:
        """Committed records of some topics."""
        return sum(batch.num_rows for batch in oracle.records(self.config.kafka, list(topics)))
