"""A Flink 2.2 session cluster: one JobManager and TaskManagers, from the PyFlink environment."""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import yaml

from runners.artefacts import java_runtime
from runners.artefacts.fetch import run
from runners.flink.environment import FIND_HOME, JAVA_OPTIONS, flink_python
from runners.stack.processes import LOOPBACK, Process, require_free

DIRECT_MB = 64
"""Direct memory for each slot, for data between the JVM and the Python workers."""


@dataclass(frozen=True)
class Flink:
    """A cluster with its data in `folder`; it uses `port` (REST) and the next two ports.

    `task_managers` have `slots` slots and `memory` (process memory, such as 4096m) each; `options`
    are further settings of Flink, which override those of `settings`; `env` goes to all processes.
    """

    folder: Path
    cache: Path
    port: int = 8081
    task_managers: int = 1
    slots: int = 4
    memory: str = "4096m"
    options: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)

    name: ClassVar[str] = "flink"
    span: ClassVar[int] = 3

    @property
    def job_manager(self) -> Process:
        """The JobManager's process."""
        return Process("jobmanager", self.folder / "jobmanager")

    def task_manager(self, number: int = 1) -> Process:
        """The process of TaskManager 1, 2, …"""
        return Process(f"taskmanager-{number}", self.folder / f"taskmanager-{number}")

    @property
    def processes(self) -> list[Process]:
        """JobManager and TaskManagers."""
        numbers = range(1, self.task_managers + 1)
        return [self.job_manager, *(self.task_manager(number) for number in numbers)]

    @property
    def address(self) -> str:
        """URL of the REST interface."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def checkpoints(self) -> str:
        """URI of the folder of checkpoints, for jobs that set no other."""
        return (self.folder / "checkpoints").as_uri()

    @property
    def savepoints(self) -> str:
        """URI of the folder of savepoints, for jobs that set no other."""
        return (self.folder / "savepoints").as_uri()

    def fetch(self) -> Path:
        """Flink's home in the PyFlink environment."""
        java_runtime.fetch(self.cache)
        python = str(flink_python())
        return Path(run([python, "-c", FIND_HOME], f"{python} has no PyFlink").split()[-1])

    def start(self) -> None:
        """Start all processes that are not running; `ready` waits for them."""
        if not self.job_manager.running():
            require_free(self.name, self.port, self.span)
            self.start_job_manager()
        for number in range(1, self.task_managers + 1):
            if not self.task_manager(number).running():
                self.start_task_manager(number)

    def start_job_manager(self) -> None:
        """Start the JobManager only, as after its loss; it does not know earlier jobs."""
        self._start("jobmanager.sh", self.job_manager)

    def start_task_manager(self, number: int = 1) -> None:
        """Start a TaskManager, as after its loss or in addition to the others."""
        self._start("taskmanager.sh", self.task_manager(number))

    def ready(self, timeout_s: float = 90) -> None:
        """Wait until the JobManager answers and all TaskManagers offer their slots. Raises
        DependencyFailed, at once where one of them ended."""
        self.job_manager.wait(lambda: bool(self.overview()), timeout_s)
        self.task_manager(1).wait(self._slots_are_offered, timeout_s)

    def _slots_are_offered(self) -> bool:
        offered = self.overview().get("slots-total", 0) >= self.task_managers * self.slots
        if not offered:
            for process in self.processes:
                process.need()
        return offered

    def overview(self) -> dict[str, int]:
        """Counts of TaskManagers, slots and jobs; empty while the JobManager does not answer."""
        try:
            with urllib.request.urlopen(f"{self.address}/overview", timeout=5) as answer:
                counts: dict[str, int] = json.load(answer)
                return counts
        except (urllib.error.URLError, OSError, ValueError):
            return {}

    def stop(self) -> None:
        """End the TaskManagers and the JobManager, with all their Python workers."""
        started = sorted(self.folder.glob("taskmanager-*"))
        for folder in started:
            Process(folder.name, folder).stop()
        self.job_manager.stop()

    def kill(self) -> None:
        """Kill all processes (SIGKILL)."""
        for process in self.processes:
            process.kill()

    def client_environment(self) -> dict[str, str]:
        """Environment in which PyFlink's `flink` and Flink's scripts find Java and this cluster."""
        self.write_settings()
        home = java_runtime.fetch(self.cache)
        return {
            "JAVA_HOME": str(home),
            "PATH": os.pathsep.join([str(home / "bin"), os.environ.get("PATH", os.defpath)]),
            "FLINK_CONF_DIR": str(self.folder / "conf"),
            "FLINK_LOG_DIR": str(self.folder / "client"),
            "PYFLINK_CLIENT_EXECUTABLE": str(flink_python()),
        }

    def write_settings(self) -> None:
        """Write the folder conf/, which the `flink` client reads too."""
        conf = self.folder / "conf"
        conf.mkdir(parents=True, exist_ok=True)
        (self.folder / "client").mkdir(exist_ok=True)
        for source in (self.fetch() / "conf").glob("log*"):
            shutil.copy(source, conf)
        (conf / "config.yaml").write_text(yaml.safe_dump(self.settings()))

    def settings(self) -> dict[str, object]:
        """All settings of the cluster, by Flink's names."""
        python = str(flink_python())
        return {
            "env.java.home": str(java_runtime.fetch(self.cache)),
            "env.java.opts.all": JAVA_OPTIONS,
            "env.java.opts.jobmanager": " ".join(java_runtime.LIGHT),
            "jobmanager.rpc.address": LOOPBACK,
            "jobmanager.rpc.port": self.port + 1,
            "jobmanager.bind-host": LOOPBACK,
            "jobmanager.memory.process.size": "1200m",
            "blob.server.port": self.port + 2,
            "rest.address": LOOPBACK,
            "rest.bind-address": LOOPBACK,
            "rest.port": self.port,
            "rest.bind-port": str(self.port),
            "taskmanager.bind-host": LOOPBACK,
            "taskmanager.host": LOOPBACK,
            "taskmanager.numberOfTaskSlots": self.slots,
            "taskmanager.memory.process.size": self.memory,
            "taskmanager.memory.jvm-metaspace.size": f"{self.metaspace_mb}m",
            "taskmanager.memory.task.off-heap.size": f"{DIRECT_MB * self.slots}m",
            "python.executable": python,
            "python.client.executable": python,
            "execution.checkpointing.dir": self.checkpoints,
            "execution.checkpointing.savepoint-dir": self.savepoints,
            "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
            "execution.checkpointing.num-retained": 2,
            "restart-strategy.type": "exponential-delay",
            "restart-strategy.exponential-delay.initial-backoff": "1 s",
            "restart-strategy.exponential-delay.max-backoff": "10 s",
            "heartbeat.interval": 2000,
            "heartbeat.timeout": 20000,
            **self.options,
        }

    @property
    def metaspace_mb(self) -> int:
        """MiB of metaspace for as many jobs as there are slots: every job loads classes of its
        own."""
        return max(256, 128 * self.slots - 256)

    def _start(self, script: str, process: Process) -> None:
        self.write_settings()
        temporary = process.folder / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        env = {**self.env, **self.client_environment()}
        env |= {"FLINK_LOG_DIR": str(process.folder), "FLINK_PID_DIR": str(temporary)}
        env |= {"TMPDIR": str(temporary), "FLINK_IDENT_STRING": "odograph"}
        command = ["bash", str(self.fetch() / "bin" / script), "start-foreground"]
        process.start([*command, "-D", f"io.tmp.dirs={temporary}"], env)
