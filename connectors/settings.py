"""What all sections of the settings share: unknown keys are refused, secrets are references."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
)

from connectors.errors import MissingSecret


def _reference(value: str) -> str:
    kind, _, name = value.partition(":")
    if kind not in ("env", "file") or not name:
        raise ValueError("not a reference to a secret: write env:NAME or file:PATH")
    return value


SecretReference = Annotated[str, AfterValidator(_reference)]
"""`env:NAME` (an environment variable) or `file:PATH` (a file's text without its last newline)."""


def secret(reference: str) -> str:
    """The secret of a reference. Raises MissingSecret."""
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = os.environ.get(name)
        if value is None:
            raise MissingSecret(f"{reference}: the environment variable {name} is not set")
        return value
    try:
        return Path(name).read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise MissingSecret(f"{reference}: {error.strerror}") from None


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
