"""Uids of steps and names of state are those of `stored_names.json`: savepoints hang on them.

The list was written at the commit before files and classes got new names, from the graphs and
savepoints of that code. By job it holds the uids of all steps; by step (without the sink's prefix)
its states: `map` or nothing for a single value, `expires` where it is forgotten after a time, and
the columns of its rows.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from runners.flink.environment import flink_python
from runners.flink.live_job import SINK
from runners.flink.submit import JAR
from schemas.layouts import as_text, layouts
from tests.repository.files import ROOT

STORED = json.loads((Path(__file__).parent / "stored_names.json").read_text())
SQL_KINDS = {
    "varchar": "string",
    "varbinary": "bytes",
    "bigint": "long",
    "integer": "int",
    "tinyint": "byte",
}


@pytest.fixture(scope="module")
def steps():
    """Operators by uid by job."""
    command = [flink_python(), "-W", "ignore", "-m", "tests.java_parity.steps", JAR]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_all_jobs_are_listed(steps):
    assert sorted(STORED["uids"]) == sorted(steps)


@pytest.mark.parametrize("job", STORED["uids"])
def test_a_job_keeps_the_uids_of_its_steps(steps, job):
    assert sorted(steps[job]) == STORED["uids"][job]


def stored_kinds(state: str) -> str:
    """A state without the names of its columns."""
    return re.sub(r"\w+:(\w+)\??", r"\1", state)


def kinds_now(state: str) -> str:
    """The same of a state that the Java side lists by Flink's types."""
    return re.sub(r"[a-z]+", lambda word: SQL_KINDS.get(word[0], word[0]), state)


@pytest.mark.parametrize("job", STORED["uids"])
def test_a_step_keeps_its_states(steps, model, job):
    prefix = f"{job.removeprefix(SINK)}: " if job.startswith(SINK) else ""
    by_operator: dict[str, dict[str, str]] = {}
    for name, state in model.constants.items():
        if name.startswith("state "):
            _, operator, stored = name.split(" ")
            by_operator.setdefault(operator, {})[stored] = kinds_now(state)
    now = {
        uid.removeprefix(prefix): by_operator[operator]
        for uid, operator in steps[job].items()
        if operator in by_operator
    }
    listed = {uid.removeprefix(prefix) for uid in STORED["uids"][job]} & set(STORED["states"])
    assert now == {
        uid: {name: stored_kinds(state) for name, state in STORED["states"][uid].items()}
        for uid in listed
    }


def test_columns_of_states_keep_their_names_and_order():
    known = {as_text(columns) for columns in layouts().values()}
    wanted = {
        state.rpartition(" ")[2]
        for states in STORED["states"].values()
        for state in states.values()
        if state != "timers"
    }
    assert wanted <= known
