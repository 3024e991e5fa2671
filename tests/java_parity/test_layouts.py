"""Both sides of the live jobs mean the same columns."""

from __future__ import annotations

import zipfile

from runners.flink.submit import JAR
from schemas import MESSAGE_TYPES
from schemas.layouts import FILE, as_text, layouts
from transforms.live.first_verdict import HISTORY, SUSPECT


def test_java_and_python_read_the_same_layouts(model):
    java = {
        name.removeprefix("layout "): text
        for name, text in model.constants.items()
        if name.startswith("layout ")
    }
    assert java == {name: as_text(columns) for name, columns in layouts().items()}


def test_the_jar_holds_the_file_of_layouts():
    with zipfile.ZipFile(JAR) as jar:
        assert jar.read("schemas/layouts.json") == FILE.read_bytes()


def test_kinds_of_uploads_are_the_same_numbers(model):
    assert int(model.constants["kind SUSPECT"]) == SUSPECT
    assert int(model.constants["kind HISTORY"]) == HISTORY
    assert int(model.constants["type LOG"]) == MESSAGE_TYPES.index("log")
