"""One YAML file of settings, checked before anything runs; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    create_model,
    field_validator,
)

from connectors.errors import BadSettings
from connectors.kafka.settings import KafkaSettings, TopicSettings
from connectors.operations_db.settings import DatabaseSettings
from connectors.retries import DeliverySettings
from connectors.schema_registry.settings import RegistrySettings
from connectors.sinks.catalogue import CATALOGUE
from connectors.storage.settings import S3Settings
from transforms.model.thresholds import Rules

SINKS = tuple(CATALOGUE)
Settings = TypeVar("Settings", bound=DeliverySettings)


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


class Stores(BaseModel):
    """The stores facts go to, a field for each of CATALOGUE; one that is null is not written to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def configured(self) -> dict[str, DeliverySettings]:
        """Settings of the stores that are written to, by name."""
        fields = {name: getattr(self, name) for name in SINKS}
        return {name: settings for name, settings in fields.items() if settings is not None}

    def settings_of(self, kind: type[Settings]) -> Settings | None:
        """Settings of the store whose settings are of this class; None where it is not set."""
        stores = self.configured().values()
        return next((settings for settings in stores if isinstance(settings, kind)), None)


# The fields are made at run time, which a type checker does not see: it has `settings_of`.
if TYPE_CHECKING:
    SinksConfig = Stores
else:
    SinksConfig = create_model(
        "SinksConfig",
        __base__=Stores,
        __doc__=Stores.__doc__,
        __module__=__name__,
        **{name: (entry.settings | None, None) for name, entry in CATALOGUE.items()},
    )


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
    """Settings from a YAML file; defaults without one. Raises BadSettings."""
    if path is None:
        return Config()
    try:
        content: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path}: not YAML: {error}") from None
    if content is None:
        return Config()
    if not isinstance(content, dict):
        raise BadSettings(f"{path}: expected keys and values, found a {type(content).__name__}")
    try:
        return Config(**content)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            lines.append(f"{path}: {key}: {problem['msg']} (given {problem['input']!r})")
        raise BadSettings("\n".join(lines)) from None
    except TypeError as error:
        raise BadSettings(f"{path}: keys must be texts: {error}") from None
