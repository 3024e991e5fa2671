"""Both sides of the live jobs mean the same columns."""

from __future__ import annotations

import pytest

from pipelines.live.aggregate_stages import CHANGED
from pipelines.live.flink.arrow_blocks import layout, schema
from pipelines.live.kafka_records import DEVICE_RECORD, OUT_RECORD
from pipelines.live.lake_sink.units import UNIT, UNIT_ROWS
from schemas import MESSAGE_TYPES
from transforms.live.first_verdict import CONTRIBUTIONS, REGISTERED, SUSPECT, TOLD
from transforms.live.revised_minutes import DOSSIER

SHARED = {
    "WorkUnits.LAYOUT": UNIT_ROWS,
    "WorkUnits.UNIT": UNIT,
    "MinuteCorrections.LAYOUT": CONTRIBUTIONS,
    "TerminalUploads.LAYOUT": REGISTERED,
    "TerminalUploads.DOSSIER": DOSSIER,
    "Kafka.DEVICE_RECORD": DEVICE_RECORD,
    "Kafka.OUT_RECORD": OUT_RECORD,
    "VehicleMinutes.CHANGED": CHANGED,
}


@pytest.mark.parametrize("name", SHARED)
def test_a_layout_is_the_same_in_java_and_python(model, name):
    assert layout(SHARED[name]) == model.constants[name]
    assert schema(model.constants[name]) == SHARED[name]


def test_kinds_of_uploads_are_the_same_numbers(model):
    assert int(model.constants["History.SUSPECT"]) == SUSPECT
    assert int(model.constants["History.TOLD"]) == TOLD
    assert int(model.constants["History.LOG"]) == MESSAGE_TYPES.index("log")
