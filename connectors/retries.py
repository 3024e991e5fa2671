"""How often and how long the outside world is asked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity
from pydantic import NonNegativeInt, PositiveInt

from connectors.errors import DependencyFailed
from connectors.settings import Section


class DeliverySettings(Section):
    """How long a store is asked again. The waits double from `retry_backoff_ms` to
    `retry_backoff_max_ms`, each shortened by chance; after `max_retries` the work fails and the
    engine repeats it. Names are those of Kafka Connect's sinks where they mean the same."""

    max_retries: NonNegativeInt = 50
    retry_backoff_ms: PositiveInt = 2_000
    retry_backoff_max_ms: PositiveInt = 60_000


Done = TypeVar("Done")


class TransientError(Exception):
    """A store said no for now: names the store, the request and its answer."""


def with_retries(
    settings: DeliverySettings, attempt: Callable[[], Done], told: Callable[[], None] | None = None
) -> Done:
    """Call `attempt` until it raises TransientError no more; `told` is called before every wait.
    Raises DependencyFailed with the last reason when patience ends."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=tenacity.wait_random_exponential(
            multiplier=settings.retry_backoff_ms / 1000, max=settings.retry_backoff_max_ms / 1000
        ),
        stop=tenacity.stop_after_attempt(settings.max_retries + 1),
        before_sleep=(lambda _: told()) if told else None,
        reraise=True,
    )
    try:
        return retrying(attempt)
    except TransientError as error:
        raise DependencyFailed(f"gave up after {settings.max_retries} retries: {error}") from error
