"""What every Python stage of a live job is: opened once a worker, then called block after block.

No engine here; `graph` lifts stages into Flink.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa

from pipelines.live.spec import LiveJobSpec
from pipelines.live.worker import WorkerContext, worker_context


@dataclass
class Stage:
    """A stage of a job: opened once in each worker, then called with block after block. `tally`
    counts what became of what came in, since the worker started; `OUTPUTS` are the
    schemas of the rows that come out, by the number of the output."""

    live: LiveJobSpec
    tally: Counter[str] = field(default_factory=Counter)
    OUTPUTS: ClassVar[tuple[pa.Schema, ...]]
    COUNTS: ClassVar[tuple[str, ...]] = ()

    @functools.cached_property
    def worker(self) -> WorkerContext:
        """What this worker is connected to."""
        return worker_context(self.live)

    def open(self) -> None:
        """Connect to what the stage needs. Raises DependencyFailed when that is away."""
        self.worker.bind()

    def gauges(self) -> dict[str, Callable[[], int]]:
        """Numbers to watch, by name."""
        counts = {name: functools.partial(self.tally.__getitem__, name) for name in self.COUNTS}
        return {**counts, **self.worker.gauges()}

    def __call__(self, block: bytes) -> bytes:
        """A block of rows to the rows of all outputs (`arrow_blocks.stage_output`)."""
        raise NotImplementedError
