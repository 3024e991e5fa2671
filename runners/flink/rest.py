"""A Flink cluster by its REST interface: which jobs run, how they stop, where they stood."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import requests

from connectors.errors import BadArguments, DependencyFailed
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings

REQUEST_S = 15
ALIVE = ("INITIALIZING", "CREATED", "RUNNING", "RESTARTING", "FAILING", "RECONCILING")


@dataclass(frozen=True)
class Job:
    """A job as the cluster describes it; `started_ms` epoch milliseconds."""

    id: str
    name: str
    state: str
    started_ms: int
    duration_ms: int

    @property
    def alive(self) -> bool:
        """Not finished, cancelled or failed for good."""
        return self.state in ALIVE


@dataclass(frozen=True)
class Cluster:
    """Raises DependencyFailed whenever the cluster cannot be asked."""

    url: str

    def ask(self, method: str, path: str, **arguments: Any) -> Any:
        """One request; the answer's JSON."""
        url = f"{self.url.rstrip('/')}{path}"
        try:
            answer = requests.request(method, url, timeout=REQUEST_S, **arguments)
        except requests.RequestException as error:
            raise DependencyFailed(
                f"Flink at {self.url} does not answer ({type(error).__name__}): "
                "is flink.url right, and the cluster up?"
            ) from None
        if answer.status_code == 404:
            raise BadArguments(f"Flink at {self.url} knows nothing of {path}")
        if not answer.ok:
            raise DependencyFailed(f"{method} {url}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else {}

    def jobs(self) -> list[Job]:
        """All jobs the cluster remembers, the newest first."""
        jobs = [
            Job(job["jid"], job["name"], job["state"], job["start-time"], job["duration"])
            for job in self.ask("GET", "/jobs/overview")["jobs"]
        ]
        return sorted(jobs, key=lambda job: -job.started_ms)

    def running(self, name: str) -> Job | None:
        """The job of this name that is alive."""
        return next((job for job in self.jobs() if job.name == name and job.alive), None)

    def need(self, name: str) -> Job:
        """The job of this name that is alive. Raises BadArguments when there is none."""
        job = self.running(name)
        if job is None:
            others = (
                ", ".join(sorted({other.name for other in self.jobs() if other.alive})) or "none"
            )
            raise BadArguments(f"no job {name} is running on {self.url}; running: {others}")
        return job

    def details(self, job: Job) -> dict[str, Any]:
        """Vertices and counts of a job."""
        return dict(self.ask("GET", f"/jobs/{job.id}"))

    def checkpoints(self, job: Job) -> dict[str, Any]:
        """Counts and the latest checkpoints of a job."""
        return dict(self.ask("GET", f"/jobs/{job.id}/checkpoints"))

    def restarts(self, job: Job) -> int | None:
        """How often a job was restarted since it was submitted; None once it has ended."""
        metrics = self.ask("GET", f"/jobs/{job.id}/metrics?get=numRestarts")
        return int(float(metrics[0]["value"])) if metrics else None

    def failure(self, job_id: str) -> str | None:
        """The last failure of a job, its causes only."""
        entries = self.ask("GET", f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]
        if not entries:
            return None
        lines = entries[0]["stacktrace"].splitlines()
        causes = [line for line in lines if not line.startswith("\tat ") and line.strip()]
        return "\n".join(causes[-8:])

    def cancel(self, job: Job) -> None:
        """End a job at once; its last checkpoint stays."""
        self.ask("PATCH", f"/jobs/{job.id}?mode=cancel")

    def end(self, job: Job, wait_s: float) -> None:
        """Cancel a job and wait until it is over."""
        self.cancel(job)
        deadline = time.monotonic() + wait_s
        while any(other.id == job.id and other.alive for other in self.jobs()):
            if time.monotonic() > deadline:
                raise DependencyFailed(f"{job.name} ({job.id}) did not end within {wait_s:g} s")
            time.sleep(0.3)

    def records_taken(self, job_id: str) -> int:
        """Records that the last step of a job has taken so far."""
        vertices = self.ask("GET", f"/jobs/{job_id}")["vertices"]
        return int(vertices[-1]["metrics"]["read-records"]) if vertices else 0

    def stop(self, job: Job, target: str | None, wait_s: float = 300) -> str:
        """Stop a job with a savepoint and return where that lies."""
        order = {"drain": False, **({"targetDirectory": target} if target else {})}
        request = self.ask("POST", f"/jobs/{job.id}/stop", json=order)["request-id"]
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            answer = self.ask("GET", f"/jobs/{job.id}/savepoints/{request}")
            if answer["status"]["id"] == "COMPLETED":
                done = answer["operation"]
                if "location" in done:
                    return str(done["location"])
                cause = done["failure-cause"]["stack-trace"].splitlines()[0]
                raise DependencyFailed(f"the savepoint of {job.name} failed: {cause}")
            time.sleep(0.2)
        raise DependencyFailed(f"{job.name} did not stop within {wait_s:g} s; it still runs")


def latest_checkpoint(uri: str, settings: S3Settings) -> str:
    """The newest complete checkpoint below a job's checkpoint folder (`<job id>/chk-<n>`).

    Raises BadArguments when there is none.
    """
    root = folder(uri.removeprefix("file://"), settings)
    complete = [
        (root.modified(name), name.rpartition("/")[0])
        for name, _ in root.names()
        if name.endswith("/_metadata")
    ]
    if not complete:
        raise BadArguments(f"--from-savepoint latest: no complete checkpoint below {uri}")
    return f"{uri.rstrip('/')}/{max(complete)[1]}"
