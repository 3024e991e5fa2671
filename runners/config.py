"""One YAML file of settings, checked before anything runs; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from connectors.archive.settings import ArchiveSettings
from connectors.errors import BadConfig
from connectors.kafka.settings import KafkaSettings, TopicSettings
from connectors.lake.settings import LakeSettings
from connectors.operations_db.settings import DatabaseSettings
from connectors.retries import DeliverySettings
from connectors.schema_registry.settings import RegistrySettings
from connectors.sinks.bigquery.settings import BigQuerySettings
from connectors.sinks.elasticsearch.settings import ElasticsearchSettings
from connectors.sinks.vehicle_state.settings import StateSettings
from connectors.storage.settings import S3Settings
from transforms.model.thresholds import Rules


class S3Config(BaseModel):
    """How to reach S3; credentials come from the standard AWS sources, never from here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str | None = None
    region: str | None = None
    connect_timeout_s: PositiveFloat = 5
    request_timeout_s: PositiveFloat = 15

    def settings(self) -> S3Settings:
        """The same for connectors."""
        return S3Settings(**self.model_dump())


class FlinkConfig(BaseModel):
    """The Flink cluster jobs are submitted to, and how they run there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = "http://127.0.0.1:8081"
    checkpoints: str | None = None
    savepoints: str | None = None
    checkpoint_interval_s: PositiveFloat = 10
    max_parallelism: PositiveInt = 128
    options: dict[str, str] = Field(default_factory=dict)


class StreamConfig(BaseModel):
    """How the live jobs batch, and how long they remember."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_records: PositiveInt = 5000
    batch_bytes: PositiveInt = 8 << 20
    batch_ms: PositiveInt = 200
    lateness_hours: PositiveFloat = 24
    outage_hours: PositiveFloat = 24
    revise_after_s: PositiveFloat = 5
    minutes_every_ms: PositiveInt = 10_000
    transaction_timeout_s: PositiveFloat = 900


class SinksConfig(BaseModel):
    """The stores facts go to; one that is null is not written to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    archive: ArchiveSettings | None = None
    lake: LakeSettings | None = None
    bigquery: BigQuerySettings | None = None
    elasticsearch: ElasticsearchSettings | None = None
    state: StateSettings | None = None

    def configured(self) -> dict[str, DeliverySettings]:
        """Settings of the stores that are written to, by name."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: settings for name, settings in given.items() if settings is not None}


SINKS = tuple(SinksConfig.model_fields)


class Config(BaseModel):
    """All settings of `odograph`; every one has a default (docs/config.example.yaml)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fleet_zone: str = "Asia/Seoul"
    schemas: str | None = None
    spool: str | None = None
    judge_within_days: PositiveFloat | None = None
    rules: Rules = Rules()
    s3: S3Config = S3Config()
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    registry: RegistrySettings = RegistrySettings()
    bindings_database: DatabaseSettings = DatabaseSettings()
    flink: FlinkConfig = FlinkConfig()
    stream: StreamConfig = StreamConfig()
    sinks: SinksConfig = SinksConfig()

    @field_validator("fleet_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("not a time zone of the tz database, such as Asia/Seoul") from None
        return value


def load_config(path: str | None) -> Config:
    """Settings from a YAML file; defaults without one. Raises BadConfig."""
    if path is None:
        return Config()
    try:
        given: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: not YAML: {error}") from None
    if given is None:
        return Config()
    if not isinstance(given, dict):
        raise BadConfig(f"{path}: expected keys and values, found a {type(given).__name__}")
    try:
        return Config(**given)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            lines.append(f"{path}: {key}: {problem['msg']} (given {problem['input']!r})")
        raise BadConfig("\n".join(lines)) from None
    except TypeError as error:
        raise BadConfig(f"{path}: keys must be texts: {error}") from None
