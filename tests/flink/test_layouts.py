"""Both sides of the live jobs mean the same columns."""

from __future__ import annotations

import pytest

from pipelines.blocks import layout, schema
from pipelines.lake_units import UNIT, UNIT_ROWS
from pipelines.records import DEVICE_RECORD, OUT_RECORD
from pipelines.stages import CHANGED
from schemas import MESSAGE_TYPES
from transforms.dossier import DOSSIER
from transforms.first_look import CONTRIBUTIONS, REGISTERED, SUSPECT, TOLD

SHARED = {
    "Blocks.LAYOUT": UNIT_ROWS,
    "Blocks.UNIT": UNIT,
    "Contributions.LAYOUT": CONTRIBUTIONS,
    "Dossiers.LAYOUT": REGISTERED,
    "Dossiers.DOSSIER": DOSSIER,
    "Kafka.DEVICE_RECORD": DEVICE_RECORD,
    "Kafka.OUT_RECORD": OUT_RECORD,
    "Minutes.CHANGED": CHANGED,
}


@pytest.mark.parametrize("name", SHARED)
def test_a_layout_is_the_same_in_java_and_python(model, name):
    assert layout(SHARED[name]) == model.constants[name]
    assert schema(model.constants[name]) == SHARED[name]


def test_kinds_of_uploads_are_the_same_numbers(model):
    assert int(model.constants["History.SUSPECT"]) == SUSPECT
    assert int(model.constants["History.TOLD"]) == TOLD
    assert int(model.constants["History.LOG"]) == MESSAGE_TYPES.index("log")
