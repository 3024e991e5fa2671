"""How the state of a vehicle or a terminal is stored: groups of columns (see
transforms/facts/vehicle_state.py), each with the clocks and the place of the row that set it."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from schemas import MESSAGE_TYPES
from schemas.arrow import UTC_MS, telemetry_schema
from transforms.facts import vehicle_state
from transforms.facts.vehicle_state import Group, seen

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
"""The attributes of the type `telemetry_row`."""


class StoredGroup(Group):
    """A group, and the columns in which it is stored."""

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


@dataclass(frozen=True)
class Kind:
    """What has a state: `table`, `key` its primary key, `other` what its newest row says it is
    with: the terminal of a vehicle, the vehicle of a terminal."""

    table: str
    key: str
    other: str

    @property
    def seen(self) -> StoredGroup:
        """The group that any row sets."""
        return _stored(seen(self.other))

    @property
    def all_groups(self) -> tuple[StoredGroup, ...]:
        """The groups that make up a state."""
        return (*GROUPS, self.seen)

    def groups(self, table: pa.Schema) -> tuple[StoredGroup, ...]:
        """The groups that rows of a telemetry table set."""
        return tuple(group for group in self.all_groups if group.of(table))


def _stored(group: Group) -> StoredGroup:
    return StoredGroup(group.name, group.columns)


GROUPS = tuple(_stored(group) for group in vehicle_state.GROUPS)
VEHICLE = Kind("vehicle_state", "vehicle_id", "device_no")
TERMINAL = Kind("device_state", "device_no", "vehicle_id")
KINDS = (VEHICLE, TERMINAL)
TYPES = {field.name: field.type for name in MESSAGE_TYPES for field in telemetry_schema(name)}
"""Arrow types of the telemetry tables' columns by name."""


def sent(kind: Kind, groups: tuple[StoredGroup, ...]) -> pa.Schema:
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
