"""Hand a live job to a Flink cluster, after a check of everything it will need."""

from __future__ import annotations

import re
import subprocess
import time
from contextlib import suppress
from importlib import resources
from pathlib import Path

from connectors.errors import BadArguments, DependencyFailed
from connectors.kafka.client import partitions
from connectors.operations_db.refresh import held, held_file
from connectors.schema_registry.lookup import ids
from pipelines.live.spec import LiveJobSpec
from pipelines.open_sink import check_store
from runners.flink.client import client, end_of_output
from runners.flink.live_job import LiveJob
from runners.flink.rest import Cluster, latest_checkpoint

JAR = Path(str(resources.files("pipelines.live.flink"))) / "odograph-flink.jar"
MAIN = Path(__file__).parent / "live_main.py"
SUBMIT_S = 180
START_S = 180
END_S = 30


def check(plan: LiveJob, live: LiveJobSpec) -> None:
    """Refuse to start a job that could not run: topics, schemas, store, bindings, the jar.

    Raises BadArguments for what the user must do first, DependencyFailed for what is away.
    """
    if not JAR.exists():
        raise BadArguments(f"{JAR.name} is not built: run `make jar`")
    partitions(live.kafka, [*plan.reads, *plan.writes])
    ids(live.registry, plan.encodes)
    if live.store:
        check_store(live.store, live.database, live.s3)
    if not plan.binds:
        return
    if live.bindings:
        held_file(live.bindings, live.s3)
    else:
        held(live.database).close()


def submit(plan: LiveJob, cluster: Cluster, savepoint: str | None) -> str:
    """Start the job and return its id once all its tasks run.

    `savepoint` is a path, or `latest` for the newest checkpoint the job left behind. Raises
    BadArguments where the job runs already, DependencyFailed where it does not come up; it is
    cancelled then.
    """
    live = plan.live()
    already = cluster.running(plan.job_name)
    if already:
        raise BadArguments(
            f"{plan.job_name} runs already on {cluster.url} ({already.id}): "
            f"stop it first with `odograph jobs stop {plan.job}`"
        )
    if savepoint == "latest":
        if plan.checkpoints is None:
            raise BadArguments("--from-savepoint latest needs flink.checkpoints in the settings")
        savepoint = latest_checkpoint(plan.checkpoints, plan.config.s3.settings())
    check(plan, live)
    job_id = _hand_over(plan, cluster.url, savepoint)
    try:
        _wait_until_running(cluster, job_id)
    except DependencyFailed:
        _give_up(cluster, job_id)
        raise
    return job_id


def _give_up(cluster: Cluster, job_id: str) -> None:
    """So that it does not come up later by itself, and can be submitted again."""
    with suppress(DependencyFailed, BadArguments):
        for job in cluster.jobs():
            if job.id == job_id and job.alive:
                cluster.end(job, END_S)


def _hand_over(plan: LiveJob, url: str, savepoint: str | None) -> str:
    with client(url) as flink:
        plan_file = flink.folder / "plan.json"
        plan_file.write_text(plan.model_dump_json())
        restore = ["-s", savepoint] if savepoint else []
        command = flink.command(
            *("-d", *restore, "-p", str(plan.parallelism), "-j", str(JAR)),
            *("-pyexec", plan.python, "-py", str(MAIN), str(plan_file)),
        )
        output = _run(command, flink.environment)
    job_id = re.search(r"JobID (\w{32})", output)
    if job_id is None:
        raise DependencyFailed(
            f"Flink at {url} did not take {plan.job}:\n{end_of_output(output.splitlines())}"
        )
    return job_id[1]


def _run(command: list[str], environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SUBMIT_S
        )
    except subprocess.TimeoutExpired:
        raise DependencyFailed(f"submitting did not end within {SUBMIT_S} s") from None
    return done.stdout + done.stderr


def _wait_until_running(cluster: Cluster, job_id: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        details = cluster.ask("GET", f"/jobs/{job_id}")
        states = {vertex["status"] for vertex in details["vertices"]}
        if details["state"] == "RUNNING" and states == {"RUNNING"}:
            return
        if details["state"] in ("FAILED", "CANCELED", "FINISHED"):
            break
        time.sleep(0.3)
    why = cluster.failure(job_id) or f"state {details['state']}, tasks {sorted(states)}"
    raise DependencyFailed(f"the job {job_id} did not start: {why}")
