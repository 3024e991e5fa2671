"""Layouts of rows are read from their file as they stand there."""

import pytest

from schemas.layouts import as_text, layout, layouts


def test_columns_keep_their_order_kinds_and_nulls():
    assert as_text(layout("unit_due")) == "unit:string,end:long,item:string?,value:bytes?"


def test_a_layout_that_extends_another_begins_with_its_columns():
    upload, dossier = layout("upload"), layout("dossier")
    assert list(dossier)[:-1] == list(upload)
    assert dossier[-1].name == "version"


def test_a_layout_that_is_none_is_refused():
    assert "unit" not in layouts()
    with pytest.raises(KeyError):
        layout("unit")
