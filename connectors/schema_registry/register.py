"""Registering our schemas: checked against every version that is already there."""

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
"""A person waits for the command; a job waits `give_up_s`."""


class NotRegistered(Exception):
    """Schemas that must not replace what is registered: every problem, and nothing registered."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True)
class Registered:
    """Where a schema lies in the registry."""

    subject: str
    version: int
    id: int


def register(settings: RegistrySettings, subject: str, schema: Mapping[str, Any]) -> int:
    """The id of a schema under a subject that keeps BACKWARD_TRANSITIVE; registering it again
    gives the same. Raises NotRegistered where the registry refuses it, DependencyFailed."""
    return _register(RegistryClient(settings), subject, schema).id


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
    return [_register(client, subject_of(topic), schema) for topic, schema in wanted.items()]


def _conflicts(client: RegistryClient, subject: str, schema: Mapping[str, Any]) -> list[Problem]:
    """What forbids `schema` to replace any version of the subject."""
    try:
        versions = client.get(f"/subjects/{subject}/versions", FIRST_ANSWER_S)
    except Missing:
        return []
    problems = []
    for version in versions:
        old = client.get(f"/subjects/{subject}/versions/{version}", FIRST_ANSWER_S)
        place = f"{subject} version {version}"
        if old.get("schemaType", "AVRO") != "AVRO":
            problems.append(Problem(place, "", "avro", f"is {old['schemaType']}; use a new topic"))
            continue
        before = json.loads(old["schema"])
        if not isinstance(before, dict) or before.get("type") != "record":
            problems.append(Problem(place, "", "avro", "is no record; use a new topic"))
            continue
        problems += check(before, dict(schema), place)
    return problems


def _register(client: RegistryClient, subject: str, schema: Mapping[str, Any]) -> Registered:
    body = {"schema": json.dumps(schema), "schemaType": "AVRO"}
    # before the first version too: the registry's own default may allow anything
    client.put(f"/config/{subject}", {"compatibility": COMPATIBILITY}, FIRST_ANSWER_S)
    try:
        client.post(f"/subjects/{subject}/versions", body, FIRST_ANSWER_S)
        found = _soon(client.post, f"/subjects/{subject}", body, FIRST_ANSWER_S)
    except Refused as error:
        raise NotRegistered([Problem(subject, "", "registry", str(error))]) from None
    return Registered(subject, int(found["version"]), int(found["id"]))


# of several registries behind one address, another one may learn of it a moment later
_soon = Retrying(
    retry=retry_if_exception_type(Missing),
    wait=wait_fixed(0.3),
    stop=stop_after_delay(FIRST_ANSWER_S),
    reraise=True,
)
