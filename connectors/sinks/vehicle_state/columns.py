"""What the state of a vehicle or a terminal is made of: groups of columns, each with the clocks and
the place of the row that set it."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from schemas import MESSAGE_TYPES
from schemas.arrow import UTC_MS, telemetry_schema

SEEN = "seen"
ROW = pa.schema(
    [
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("sample_idx", pa.int32(), nullable=False),
        pa.field("revision", pa.int64(), nullable=False),
        pa.field("message_id", pa.string(), nullable=False),
    ]
)
"""The attributes of the type `telemetry_row`, in the order in which rows of one instant are
compared."""


@dataclass(frozen=True)
class Group:
    """Columns that one telemetry row sets together: the newest in which one of them has a value."""

    name: str
    columns: tuple[str, ...]

    @property
    def event_time(self) -> str:
        """Name of the column with the row's event time."""
        return f"{self.name}_event_time"

    @property
    def received_time(self) -> str:
        """Name of the column with the row's receive time."""
        return f"{self.name}_received_time"

    @property
    def row(self) -> str:
        """Name of the column with the row's place, key and revision, a `telemetry_row`."""
        return f"{self.name}_row"

    @property
    def any_row(self) -> bool:
        """Whether any row sets it, whatever it has."""
        return self.name == SEEN

    def of(self, table: pa.Schema) -> bool:
        """Whether rows of a telemetry table can set the group."""
        return any(name in table.names for name in self.columns)


@dataclass(frozen=True)
class Kind:
    """What has a state: `table`, `key` its primary key, `other` what its newest row says it is
    with: the terminal of a vehicle, the vehicle of a terminal."""

    table: str
    key: str
    other: str

    @property
    def seen(self) -> Group:
        """The group that any row sets."""
        return Group(SEEN, (self.other,))

    @property
    def all_groups(self) -> tuple[Group, ...]:
        """The groups that make up a state."""
        return (*GROUPS, self.seen)

    def groups(self, table: pa.Schema) -> tuple[Group, ...]:
        """The groups that rows of a telemetry table set."""
        return tuple(group for group in self.all_groups if group.any_row or group.of(table))


POSITION = Group("position", ("lat_deg", "lon_deg", "heading_deg", "accuracy_m"))
GROUPS = (
    POSITION,
    Group("speed", ("speed_kmh",)),
    Group("ignition", ("ignition_on", "engine_running")),
    Group("lock", ("locked", "door_open", "door_state_bits")),
    Group("odometer", ("odometer_m",)),
    Group("battery", ("aux_battery_v", "backup_battery_v")),
    Group("energy", ("fuel_level_pct", "ev_soc_pct", "ev_charging")),
)
VEHICLE = Kind("vehicle_state", "vehicle_id", "device_no")
TERMINAL = Kind("device_state", "device_no", "vehicle_id")
KINDS = (VEHICLE, TERMINAL)
TYPES = {field.name: field.type for name in MESSAGE_TYPES for field in telemetry_schema(name)}
"""Arrow types of the telemetry tables' columns by name."""


def sent(kind: Kind, groups: tuple[Group, ...]) -> pa.Schema:
    """Telemetry rows on their way to the database: the key, the columns of `groups`, clocks, ROW,
    the newest receive time of the vehicle or terminal, and as bits which of the groups the row
    sets, the first one being the lowest."""
    columns = [name for group in groups for name in group.columns]
    return pa.schema(
        [
            pa.field(kind.key, pa.string(), nullable=False),
            *(pa.field(name, TYPES[name]) for name in columns),
            pa.field("event_time", UTC_MS, nullable=False),
            pa.field("received_time", UTC_MS, nullable=False),
            *ROW,
            pa.field("last_received_time", UTC_MS, nullable=False),
            pa.field("sets", pa.int32(), nullable=False),
        ]
    )
