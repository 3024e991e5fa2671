"""A live job as it is submitted: its name, the settings, and where it starts to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from connectors.errors import BadArguments
from connectors.kafka import topics
from connectors.retries import DeliverySettings
from connectors.sinks.catalogue import CATALOGUE, SinkEntry, Takes
from pipelines.live.spec import HOUR_MS, LiveJobSpec
from runners.config import Config

PREFIX = "odograph-"
SINK = "sink-"
SINK_BUILT_BY: dict[Takes, str] = {
    "rows": "pipelines.live.rows_sink",
    "records": "pipelines.live.archive_sink",
    "offset blocks": "pipelines.live.lake_sink.job",
}
"""The module that builds the job of a sink, by what the store takes."""
BUILT_BY = {
    "convert": "pipelines.live.convert",
    "aggregate": "pipelines.live.aggregate",
    **{f"{SINK}{entry.name}": SINK_BUILT_BY[entry.takes] for entry in CATALOGUE.values()},
}
"""The module that builds each job; imported when it is wanted, because stores need libraries."""
JOBS = tuple(BUILT_BY)

SINK_OPTIONS = {
    "execution.checkpointing.timeout": "1h",
    "execution.checkpointing.tolerable-failed-checkpoints": "1000000",
    "execution.checkpointing.min-pause": "1s",
    "python.fn-execution.bundle.size": "1",
}
"""A store that is away holds its job's barriers back: that is lag, not a failure."""


class LiveJob(BaseModel):
    """What `odograph submit` hands to the job's program on the Flink client, as JSON. `job` is one
    of JOBS, `python` the interpreter on the workers, `bindings` a file to use instead of the
    operations database; `start_at` is earliest, latest, committed, or epoch milliseconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: str
    config: Config
    python: str
    start_at: str = "committed"
    parallelism: int = 1
    bindings: str | None = None

    @property
    def job_name(self) -> str:
        """Its name on the cluster."""
        return f"{PREFIX}{self.job}"

    @property
    def transactions(self) -> str:
        """Prefix of its Kafka transactions, the same in every submission: a new one ends those
        an old one left open."""
        return self.job_name

    @property
    def uid_prefix(self) -> str:
        """Begins the uids of its steps, so that it takes no savepoint of another job."""
        return f"{self.sink}: " if self.sink else ""

    @property
    def checkpoints(self) -> str | None:
        """Where its checkpoints lie; each job has a folder of its own."""
        folder = self.config.flink.checkpoints
        return f"{folder.rstrip('/')}/{self.job_name}" if folder else None

    @property
    def sink(self) -> str | None:
        """The store it writes to; None for a job that writes to Kafka."""
        return self.job.removeprefix(SINK) if self.job.startswith(SINK) else None

    @property
    def entry(self) -> SinkEntry[Any] | None:
        """The catalogue's entry of that store."""
        return CATALOGUE[self.sink] if self.sink else None

    @property
    def reads(self) -> tuple[str, ...]:
        """Topics it reads."""
        minutes = self.entry is not None and self.entry.keeps_minutes
        return (*topics.DEVICE_TOPICS, *([topics.MINUTES] if minutes else []))

    @property
    def encodes(self) -> tuple[str, ...]:
        """Topics it writes Avro to, whose schemas must be registered."""
        if self.sink:
            return (topics.DEAD_LETTERS,) if self.binds else ()
        if self.job == "aggregate":
            return (topics.MINUTES,)
        return (*topics.VEHICLE_TOPICS, topics.DEAD_LETTERS)

    @property
    def writes(self) -> tuple[str, ...]:
        """Topics it writes to."""
        if self.sink:
            return self.encodes
        return (*self.encodes, topics.LATE if self.job == "aggregate" else topics.UNBOUND)

    @property
    def binds(self) -> bool:
        """It needs to know which vehicle a terminal sits in."""
        return self.entry is None or self.entry.takes != "records"

    @property
    def store(self) -> DeliverySettings | None:
        """Where a sink writes to. Raises BadArguments where the settings do not say."""
        if self.sink is None:
            return None
        configured = self.config.sinks.configured()
        if self.sink not in configured:
            raise BadArguments(
                f"sinks.{self.sink} is not set: say in the settings file where it writes to"
                f" (docs/sinks/README.md); set are {', '.join(configured) or 'none'}"
            )
        return configured[self.sink]

    @property
    def linger_ms(self) -> int:
        """How long records wait for others, so that they are handed on together."""
        return int(getattr(self.store, "linger_ms", self.config.stream.batch_ms))

    @property
    def checkpoint_interval_s(self) -> float:
        """A barrier makes the archive write what it has, so its checkpoints are as far apart as
        its records may wait."""
        store, entry = self.store, self.entry
        if store and entry and entry.checkpoint_interval_ms:
            return entry.checkpoint_interval_ms(store) / 1000
        return self.config.flink.checkpoint_interval_s

    def live(self) -> LiveJobSpec:
        """The spec that its stages get."""
        config, stream = self.config, self.config.stream
        return LiveJobSpec(
            name=self.job,
            kafka=config.kafka,
            registry=config.registry,
            database=config.bindings_database,
            s3=config.s3.settings(),
            bindings=self.bindings,
            store=self.store,
            rules=config.rules,
            zone=config.fleet_zone,
            lateness_ms=round(stream.lateness_hours * HOUR_MS),
            outage_ms=round(stream.outage_hours * HOUR_MS),
            revise_after_ms=round(stream.revise_after_s * 1000),
            minutes_every_ms=stream.minutes_every_ms,
            transaction_timeout_ms=round(stream.transaction_timeout_s * 1000),
        )

    def flink_options(self) -> dict[str, str]:
        """Settings of the job by Flink's names; those of the settings file come last."""
        flink = self.config.flink
        options = {
            "pipeline.name": self.job_name,
            "pipeline.object-reuse": "true",
            "pipeline.max-parallelism": str(flink.max_parallelism),
            "pipeline.operator-chaining.enabled": "true",
            "parallelism.default": str(self.parallelism),
            "python.executable": self.python,
            "python.pythonpath": str(Path(__file__).parent / "worker_site"),
            "python.fn-execution.bundle.size": "4",
            "python.fn-execution.bundle.time": "50",
            "execution.checkpointing.interval": f"{self.checkpoint_interval_s:g}s",
            "execution.checkpointing.mode": "EXACTLY_ONCE",
            "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
            "state.backend.type": "rocksdb",
            "execution.checkpointing.incremental": "true",
            # most keys are looked for once, before they are there; what is written is not changed
            "state.backend.rocksdb.use-bloom-filter": "true",
            "state.backend.rocksdb.compaction.style": "UNIVERSAL",
            "restart-strategy.type": "exponential-delay",
            "restart-strategy.exponential-delay.initial-backoff": "1s",
            "restart-strategy.exponential-delay.max-backoff": "30s",
        }
        if self.sink:
            options |= SINK_OPTIONS
        if self.checkpoints:
            options["execution.checkpointing.dir"] = self.checkpoints
        if flink.savepoints:
            options["execution.checkpointing.savepoint-dir"] = flink.savepoints
        return options | flink.options
