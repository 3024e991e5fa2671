"""Jobs whose ids are given, so that one whose answer was lost is found and not started again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from connectors.errors import DependencyFailed
from connectors.retries import TransientError
from connectors.sinks.bigquery.client import RestClient
from connectors.sinks.bigquery.errors import Exists, Missing, of_job

_TRIES = 1_000


def run_once(
    rest: RestClient, name: str, location: str | None, start: Callable[[str], Any]
) -> None:
    """Start the job, given its id, or find the one that was started, and wait for its end. A job
    that failed has used up its id, so that the next has a number more. Raises TransientError,
    Missing, Buffered, RowsRefused, DependencyFailed."""
    for number in range(_TRIES):
        started, job = _job(rest, f"{name}-{number}", location, start)
        error = rest.end_of(job)
        if error is None:
            return
        words = f"BigQuery job {job.job_id}: {error.get('message', 'no reason given')}"
        if started:
            raise of_job(str(error.get("reason", "")), words)
    raise DependencyFailed(f"{words}; it failed {_TRIES} times, so that this id is used up")


def _job(
    rest: RestClient, name: str, location: str | None, start: Callable[[str], Any]
) -> tuple[bool, Any]:
    """Whether the job was started now, and the job. Jobs are known in their location alone."""

    def found() -> Any:
        return rest.once(f"look at job {name}", rest.client.get_job, name, location=location)

    with suppress(Missing):
        return False, found()
    try:
        return True, rest.asked(f"start job {name}", lambda: start(name))
    except Exists as error:
        with suppress(Missing):
            return False, found()
        raise TransientError(
            f"{error}; but it is not found in {location or 'the location'}"
        ) from None
