"""A live job as it is submitted: which, with which settings, from where."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipelines.live import HOUR_MS, Live
from runners.config import Config
from schemas import MESSAGE_TYPES


class Plan(BaseModel):
    """`start_at` is earliest, latest, committed, or epoch milliseconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: str
    config: Config
    python: str
    start_at: str = "committed"
    parallelism: int = 1
    bindings: str | None = None

    @property
    def job_name(self) -> str:
        """How the cluster calls it."""
        return f"odograph-{self.job}"

    @property
    def transactions(self) -> str:
        """Prefix of its Kafka transactions, the same in every submission: a new one ends those
        an old one left open."""
        return self.job_name

    @property
    def checkpoints(self) -> str | None:
        """Where its checkpoints lie; each job has a folder of its own."""
        place = self.config.flink.checkpoints
        return f"{place.rstrip('/')}/{self.job_name}" if place else None

    @property
    def encodes(self) -> tuple[str, ...]:
        """Topics it writes Avro to, whose schemas must be registered."""
        if self.job == "aggregate":
            return ("vehicle-minutes",)
        return (*(f"vehicle-{name}" for name in MESSAGE_TYPES), "dead-letters")

    @property
    def writes(self) -> tuple[str, ...]:
        """Topics it writes to."""
        return (*self.encodes, "late" if self.job == "aggregate" else "unbound")

    def live(self) -> Live:
        """The same for the pipelines."""
        config, stream = self.config, self.config.stream
        return Live(
            name=self.job,
            kafka=config.kafka,
            registry=config.registry,
            database=config.bindings_database,
            bindings=self.bindings,
            rules=config.rules,
            lateness_ms=round(stream.lateness_hours * HOUR_MS),
            outage_ms=round(stream.outage_hours * HOUR_MS),
            revise_after_ms=round(stream.revise_after_s * 1000),
            minutes_every_ms=stream.minutes_every_ms,
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
            "execution.checkpointing.interval": f"{flink.checkpoint_interval_s:g}s",
            "execution.checkpointing.mode": "EXACTLY_ONCE",
            "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
            "state.backend.type": "rocksdb",
            "execution.checkpointing.incremental": "true",
            "restart-strategy.type": "exponential-delay",
            "restart-strategy.exponential-delay.initial-backoff": "1s",
            "restart-strategy.exponential-delay.max-backoff": "30s",
        }
        if self.checkpoints:
            options["execution.checkpointing.dir"] = self.checkpoints
        if flink.savepoints:
            options["execution.checkpointing.savepoint-dir"] = flink.savepoints
        # the parts of one upload must not be torn apart by a barrier that overtakes some of them
        return options | flink.options | {"execution.checkpointing.unaligned.enabled": "false"}
