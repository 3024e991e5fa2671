"""Settings: how the schema registry is reached."""

from __future__ import annotations

from pydantic import PositiveFloat

from connectors.settings import SecretReference, Section


class RegistrySettings(Section):
    """A schema registry with Confluent's API; `cache` is a folder that keeps schemas by id. A
    registry that does not answer is asked again for `give_up_s` seconds before the work fails."""

    url: str | None = None
    cache: str | None = None
    user: str | None = None
    password: SecretReference | None = None
    ca_file: str | None = None
    give_up_s: PositiveFloat = 300
