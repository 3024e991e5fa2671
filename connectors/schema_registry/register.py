"""Registers Odograph's schemas after checking them against every registered version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from connectors.kafka.topics import SCHEMA_OF
from connectors.schema_registry.client import Missing, Refused, RegistryClient
from connectors.schema_registry.lookup import subject_of
from connectors.schema_registry.settings import RegistrySettings
from schemas import AVRO_DIRECTORY
from schemas.evolution import Problem, check
from schemas.lint import lint_directory

COMPATIBILITY = "BACKWARD_TRANSITIVE"
FIRST_ANSWER_S = 15.0
"""Seconds to wait for an answer: less than a job (`give_up_s`), for a person waits for the
command."""


class NotRegistered(Exception):
    """Schemas must not replace registered versions; `problems` has every reason. Nothing was
    registered."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True)
class Registered:
    """A registered schema: its subject, its version there, and its id."""

    subject: str
    version: int
    id: int


def register_all(
    settings: RegistrySettings,
    topics: Mapping[str, str] = SCHEMA_OF,
    directory: Path = AVRO_DIRECTORY,
) -> list[Registered]:
    """Register the schema file of each topic, after all of them were checked against Odograph's
    rules and against every version of their subjects.

    Raises NotRegistered with all problems before anything is registered, DependencyFailed.
    """
    client = RegistryClient(settings)
    problems = lint_directory(directory)
    if problems:
        raise NotRegistered(problems)
    wanted = {
        topic: json.loads((directory / f"{name}.avsc").read_text(encoding="utf-8"))
        for topic, name in topics.items()
    }
    for topic, schema in wanted.items():
        problems += _conflicts(client, subject_of(topic), schema)
    if problems:
        raise NotRegistered(problems)
    return [register(client, subject_of(topic), schema) for topic, schema in wanted.items()]


def _conflicts(client: RegistryClient, subject: str, schema: Mapping[str, Any]) -> list[Problem]:
    """The problems of `schema` with each version of the subject; none for a new subject."""
    try:
        versions = client.get(f"/subjects/{subject}/versions", FIRST_ANSWER_S)
    except Missing:
        return []
    problems = []
    for version in versions:
        old = client.get(f"/subjects/{subject}/versions/{version}", FIRST_ANSWER_S)
        where = f"{subject} version {version}"
        if old.get("schemaType", "AVRO") != "AVRO":
            problems.append(Problem(where, "", "avro", f"is {old['schemaType']}; use a new topic"))
            continue
        before = json.loads(old["schema"])
        if not isinstance(before, dict) or before.get("type") != "record":
            problems.append(Problem(where, "", "avro", "is no record; use a new topic"))
            continue
        problems += check(before, dict(schema), where)
    return problems


def register(client: RegistryClient, subject: str, schema: Mapping[str, Any]) -> Registered:
    """Register a schema under a subject that keeps BACKWARD_TRANSITIVE; registering it again gives
    the same. Raises NotRegistered where the registry refuses it, DependencyFailed."""
    body = {"schema": json.dumps(schema), "schemaType": "AVRO"}
    # before the first version too: the registry's own default may allow anything
    client.put(f"/config/{subject}", {"compatibility": COMPATIBILITY}, FIRST_ANSWER_S)
    try:
        client.post(f"/subjects/{subject}/versions", body, FIRST_ANSWER_S)
        answer = _soon(client.post, f"/subjects/{subject}", body, FIRST_ANSWER_S)
    except Refused as error:
        raise NotRegistered([Problem(subject, "", "registry", str(error))]) from None
    return Registered(subject, int(answer["version"]), int(answer["id"]))


# of several registries behind one address, another one may learn of it a moment later
_soon = Retrying(
    retry=retry_if_exception_type(Missing),
    wait=wait_fixed(0.3),
    stop=stop_after_delay(FIRST_ANSWER_S),
    reraise=True,
)
