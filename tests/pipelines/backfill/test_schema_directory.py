"""Writer schemas from a folder: one that is not there is unknown, one that is none is named."""

from __future__ import annotations

import json

import pytest

from connectors.errors import DependencyFailed
from connectors.storage.settings import S3Settings
from pipelines.backfill.spec import SchemaDirectory
from schemas import load

pytestmark = pytest.mark.days


@pytest.fixture
def directory(tmp_path):
    return SchemaDirectory(str(tmp_path), S3Settings())


def test_a_file_is_the_schema_of_its_id_and_no_file_is_an_unknown_id(directory, tmp_path):
    schema = load("message_log").avro
    (tmp_path / "7.avsc").write_text(json.dumps(schema))
    assert directory.lookup(7) == schema
    assert directory.lookup(8) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"string"', "is no Avro record"),
        ('[{"type": "record", "name": "A", "fields": []}]', "is no Avro record"),
        ('{"type": "record", "fields": []}', "is no Avro schema"),
        ("", "is no Avro schema"),
        ("\xff", "is no Avro schema"),
    ],
)
def test_a_file_that_is_no_record_fails_by_its_name_instead_of_refusing_messages(
    directory, tmp_path, text, reason
):
    (tmp_path / "7.avsc").write_bytes(text.encode("latin-1"))
    with pytest.raises(DependencyFailed, match=rf"7\.avsc {reason}"):
        directory.lookup(7)


def test_a_folder_that_is_not_there_is_no_folder_without_schemas(tmp_path):
    with pytest.raises(DependencyFailed, match="is not there"):
        SchemaDirectory(str(tmp_path / "nowhere"), S3Settings()).lookup(7)
