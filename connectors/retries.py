"""How often and how long a request to a store is tried again, and the loop that does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity
from pydantic import NonNegativeInt, PositiveInt

from connectors.errors import DependencyFailed
from connectors.settings import Section


class DeliverySettings(Section):
    """How often a request to a store is tried again. Waits grow from `retry_backoff_ms` to
    `retry_backoff_max_ms`, each shortened at random; after `max_retries` the work fails and the
    engine repeats it. Names are those of Kafka Connect's sinks where they mean the same."""

    max_retries: NonNegativeInt = 50
    retry_backoff_ms: PositiveInt = 2_000
    retry_backoff_max_ms: PositiveInt = 60_000


Done = TypeVar("Done")


class TransientError(Exception):
    """A store refused for now: names the store, the request and its answer."""


def with_retries(
    settings: DeliverySettings,
    attempt: Callable[[], Done],
    on_retry: Callable[[], None] | None = None,
) -> Done:
    """Call `attempt` again each time it raises TransientError, and return its result; `on_retry` is
    called before every wait. Raises DependencyFailed with the last reason after `max_retries`."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=tenacity.wait_random_exponential(
            multiplier=settings.retry_backoff_ms / 1000, max=settings.retry_backoff_max_ms / 1000
        ),
        stop=tenacity.stop_after_attempt(settings.max_retries + 1),
        before_sleep=(lambda _: on_retry()) if on_retry else None,
        reraise=True,
    )
    try:
        return retrying(attempt)
    except TransientError as error:
        raise DependencyFailed(f"gave up after {settings.max_retries} retries: {error}") from error
