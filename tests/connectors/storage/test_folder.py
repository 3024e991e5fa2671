"""Whole files or none, on the local file system."""

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from connectors.errors import DependencyFailed
from connectors.storage.folder import folder
from connectors.storage.s3 import VersionConflict
from connectors.storage.settings import S3Settings
from tests.repository.files import ROOT


@pytest.fixture
def place(tmp_path):
    return folder(str(tmp_path / "place"), S3Settings())


def everything(place):
    return sorted(
        str(p.relative_to(place.path)) for p in Path(place.path).rglob("*") if p.is_file()
    )


def test_what_is_written_is_read_and_listed(place):
    place.write("a/b/one.txt", b"one")
    place.write("a/two.txt", b"2")
    assert place.read("a/b/one.txt").to_pybytes() == b"one"
    assert place.names() == [("a/b/one.txt", 3), ("a/two.txt", 1)]
    assert place.child("a").names() == [("b/one.txt", 3), ("two.txt", 1)]


def test_what_is_not_there_is_nothing(place):
    assert place.names() == []
    assert place.read("none") is None
    assert not place.exists()
    place.delete("none")
    place.clear()


def test_an_empty_file_is_read_as_empty(place):
    place.write("empty", b"")
    assert place.read("empty").to_pybytes() == b""


def test_a_file_replaced_while_it_is_read_stays_what_it_was(place):
    place.write("one", b"before")
    held = place.read("one")
    place.write("one", b"after!")
    assert held.to_pybytes() == b"before"
    assert place.read("one").to_pybytes() == b"after!"


def test_a_file_is_replaced_and_deleted_only_where_it_is_what_was_read(place):
    first = place.replace("one", b"before", None)
    second = place.replace("one", b"after!", first)
    with pytest.raises(VersionConflict):
        place.replace("one", b"other!", first)
    with pytest.raises(VersionConflict):
        place.delete_version("one", first)
    assert place.read_version("one") == (b"after!", second)
    place.delete_version("one", second)
    place.delete_version("one", second)
    with pytest.raises(VersionConflict):
        place.replace("one", b"before", second)
    assert place.version("one") is None


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(place):
    place.write("one", b"before")
    with pytest.raises(RuntimeError), place.whole("one") as stream:
        stream.write(b"half")
        raise RuntimeError
    assert place.read("one").to_pybytes() == b"before"
    assert everything(place) == ["one"]


def test_a_killed_writer_leaves_no_half_file_and_sweep_deletes_what_it_left(place):
    program = (
        "import os, signal, sys; from connectors.storage.folder import folder\n"
        "from connectors.storage.settings import S3Settings\n"
        "stream, _ = folder(sys.argv[1], S3Settings()).begin('table/one.parquet')\n"
        "stream.write(b'half'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", program, place.path]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    place.write("table/.keep", b"")
    place.write("table/two.parquet", b"2")
    assert place.read("table/one.parquet") is None
    assert len(everything(place)) == 3
    place.sweep()
    assert everything(place) == ["table/.keep", "table/two.parquet"]


def test_clear_deletes_all_below(place):
    place.write("a/b/one", b"1")
    place.write("c", b"2")
    place.child("a").clear()
    assert everything(place) == ["c"]


def test_a_file_in_the_way_is_a_failed_dependency_that_names_it(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DependencyFailed, match=r"write .*file/one"):
        folder(str(tmp_path / "file"), S3Settings()).write("one", b"1")


@pytest.mark.parametrize("uri", ["{}", "file://{}", "{}/"])
def test_a_local_folder_has_several_spellings(tmp_path, uri):
    place = folder(uri.format(tmp_path), S3Settings())
    assert place.local and place.path == str(tmp_path)


@pytest.mark.parametrize("uri", ["s3://bucket/some/prefix", "s3://bucket/some/prefix/"])
def test_a_bucket_and_prefix(uri):
    place = folder(uri, S3Settings())
    assert not place.local and place.path == "bucket/some/prefix"
    assert place.child("table").uri == "s3://bucket/some/prefix/table"


def test_a_stream_can_hold_arrow_data(place):
    batch = pa.record_batch({"a": [1, 2]})
    with place.whole("one.arrow") as stream, pa.ipc.new_file(stream, batch.schema) as writer:
        writer.write_batch(batch)
    assert pa.ipc.open_file(place.read("one.arrow")).get_batch(0).equals(batch)
