"""Hand a live job to a Flink cluster, after a look at everything it will need."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from connectors.snapshot import held, held_file

from connectors.files import DependencyFailed
from connectors.kafka import partitions
from connectors.registry import ids
from runners.config import BadArguments
from runners.flink.cluster import Cluster, latest_checkpoint
from runners.flink.plan import Plan
from runners.stack import java
from runners.stack.artefacts import default_cache
from runners.stack.flink import JAVA_OPTIONS, flink_python

JAR = Path(__file__).parent / "odograph-flink.jar"
MAIN = Path(__file__).parent / "main.py"
SUBMIT_S = 180
START_S = 180


def check(plan: Plan) -> None:
    """Refuse to start a job that could not run: topics, schemas, bindings, the jar.

    Raises BadArguments for what the user must do first, DependencyFailed for what is away.
    """
    if not JAR.exists():
        raise BadArguments(f"{JAR.name} is not built: run `make jar`")
    live = plan.live()
    partitions(live.kafka, [*live.device_topics, *plan.writes])
    ids(live.registry, plan.encodes)
    source = held_file(live.bindings, plan.config.s3.settings()) if live.bindings else (
        held(live.database)
    )
    source.close()


def submit(plan: Plan, cluster: Cluster, savepoint: str | None) -> str:
    """Start the job and return its id once all its tasks run.

    `savepoint` is a path, or `latest` for the newest checkpoint the job left behind. Raises
    BadArguments where the job runs already, DependencyFailed where it does not come up.
    """
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
    check(plan)
    job_id = _hand_over(plan, cluster.url, savepoint)
    _wait_until_running(cluster, job_id)
    return job_id


def _hand_over(plan: Plan, url: str, savepoint: str | None) -> str:
    python = str(flink_python())
    home = Path(python).parent.parent / "lib"
    flink = next(home.glob("python3*/site-packages/pyflink"), None)
    if flink is None:
        raise DependencyFailed(f"{python} has no PyFlink below {home}")
    with tempfile.TemporaryDirectory(prefix="odograph-submit-") as folder:
        place = Path(folder)
        (place / "plan.json").write_text(plan.model_dump_json())
        (place / "config.yaml").write_text(yaml.safe_dump(_client_settings(url, place)))
        for source in (flink / "conf").glob("log4j-cli*"):
            (place / source.name).write_bytes(source.read_bytes())
        from_there = ["-s", savepoint] if savepoint else []
        command = [
            *("bash", str(flink / "bin" / "flink"), "run", "-d", *from_there),
            *("-p", str(plan.parallelism), "-j", str(JAR)),
            *("-pyclientexec", python, "-pyexec", plan.python),
            *("-py", str(MAIN), str(place / "plan.json")),
        ]
        done = _run(command, _client_environment(place, python))
    found = re.search(r"JobID (\w{32})", done)
    if found is None:
        told = [line for line in done.splitlines() if not line.startswith(("\tat", "SLF4J"))]
        raise DependencyFailed(f"Flink at {url} did not take {plan.job}:\n" + "\n".join(told[-15:]))
    return found[1]


def _run(command: list[str], environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SUBMIT_S
        )
    except subprocess.TimeoutExpired:
        raise DependencyFailed(f"submitting did not end within {SUBMIT_S} s") from None
    return done.stdout + done.stderr


def _client_settings(url: str, place: Path) -> dict[str, object]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return {
        "rest.address": parts.hostname,
        "rest.port": parts.port or (443 if secure else 8081),
        "security.ssl.rest.enabled": secure,
        "jobmanager.rpc.address": parts.hostname,
        "env.java.opts.all": JAVA_OPTIONS,
        "env.log.dir": str(place),
    }


def _client_environment(place: Path, python: str) -> dict[str, str]:
    home = os.environ.get("JAVA_HOME") or str(java.fetch(default_cache()))
    path = os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", os.defpath)])
    return {
        **os.environ,
        "JAVA_HOME": home,
        "FLINK_CONF_DIR": str(place),
        "FLINK_LOG_DIR": str(place),
        "PATH": path,
    }


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
