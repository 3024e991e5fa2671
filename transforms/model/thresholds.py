"""The thresholds of docs/rules.md, as one immutable value. Units are in the names."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bounds(_Section):
    """How large a message may be; what is larger is refused."""

    max_message_bytes: PositiveInt = 262_144
    max_nesting: PositiveInt = 16
    max_keys: PositiveInt = 1000
    max_samples: PositiveInt = 600
    max_dead_letter_bytes: PositiveInt = 4 * 1024 * 1024
    max_device_no_length: PositiveInt = 64


class UnitAdapter(_Section):
    """Multiplies `field` of uploads of a generation and firmware prefix by `factor` (M20)."""

    generation: str
    firmware_prefix: str
    field: str
    factor: PositiveFloat


class Clock(_Section):
    """When a terminal's clock counts as good, and how it is corrected (M05-M08)."""

    future_tolerance_s: PositiveFloat = 300
    future_limit_s: PositiveFloat = 86_400
    stable_uploads: PositiveInt = 3
    stable_spread_s: PositiveFloat = 5
    zone_tolerance_s: PositiveFloat = 90
    zone_uploads: PositiveInt = 5
    zone_steps: PositiveInt = 28
    epoch_days: PositiveFloat = 30
    rollover_slack_days: PositiveFloat = 90


class Position(_Section):
    """When a position is accepted, and when a step adds distance (M10-M13)."""

    zero_deg: PositiveFloat = 1e-6
    jump_mps: PositiveFloat = 70
    jump_accept: PositiveInt = 3
    jitter_m: PositiveFloat = 20
    jitter_kmh: PositiveFloat = 1


class Terminal(_Section):
    """Rules over all reports of a terminal (M24, M25)."""

    reboot_count: PositiveInt = 3
    reboot_window_s: PositiveFloat = 600
    ignition_debounce_s: PositiveFloat = 30


class Minutes(_Section):
    """What counts as driving, idling and too fast."""

    driving_kmh: PositiveFloat = 5
    idle_kmh: PositiveFloat = 1
    overspeed_kmh: PositiveFloat = 110
    log_interval_s: PositiveInt = 60


class Rules(_Section):
    """All thresholds; the defaults are those of docs/rules.md."""

    bounds: Bounds = Bounds()
    clock: Clock = Clock()
    position: Position = Position()
    terminal: Terminal = Terminal()
    minutes: Minutes = Minutes()
    unit_adapters: tuple[UnitAdapter, ...] = Field(
        default=(
            UnitAdapter(generation="CSA", firmware_prefix="2.", field="speed_kmh", factor=0.36),
        )
    )
