"""Times as the simulated terminals and files write them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(ms: int) -> str:
    """An instant as ISO text in UTC with milliseconds."""
    moment = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds")
