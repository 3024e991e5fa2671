"""Documents of vehicles as this process saw them last, so that they need not be read again."""

from __future__ import annotations

import polars as pl

from connectors.sinks.elasticsearch.vehicle_documents import KEY, stored

MARKS = {"seq_no": pl.Int64(), "term": pl.Int64()}
"""What a write needs on condition that a document is still as it was seen."""
HELD = 100_000


class VehicleCache:
    """States with MARKS, of at most HELD vehicles; those seen longest ago go first. Use from one
    thread at a time."""

    def __init__(self) -> None:
        self._states = stored([], MARKS)

    def of(self, vehicles: pl.DataFrame) -> pl.DataFrame:
        """What is known of these (a frame with their KEY)."""
        return self._states.join(vehicles, on=KEY, how="semi")

    def keep(self, states: pl.DataFrame) -> None:
        """These are the documents as they are now."""
        others = self._states.join(states, on=KEY, how="anti")
        self._states = pl.concat([others, states.select(others.columns)]).tail(HELD)

    def forget(self, vehicles: pl.DataFrame) -> None:
        """Forget these: somebody else changed their documents."""
        self._states = self._states.join(vehicles, on=KEY, how="anti")
