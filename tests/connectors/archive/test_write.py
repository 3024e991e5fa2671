"""What the archive holds of the records it is given: their exact bytes, where their place says."""

import gzip
import json
import logging
import os
import random
import subprocess
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.archive import names
from connectors.archive import parquet as inside
from connectors.archive.progress import Progress
from connectors.archive.read import list_objects, read_object
from connectors.archive.settings import ArchiveSettings
from connectors.archive.write import archive_writer
from connectors.errors import BadSettings, DependencyFailed
from connectors.kafka.bounded_read import OffsetsGone
from connectors.kafka.settings import KafkaSettings
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from schemas import MESSAGE_TYPES
from tests.support.archives import (
    TOPIC,
    ZONE,
    Log,
    archived,
    batch,
    known,
    object_names,
    read_progress,
    record,
    writer,
)

ALL = frozenset(MESSAGE_TYPES)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(names, "BLOCK", 10)


@pytest.fixture
def place(tmp_path):
    return folder(str(tmp_path / "archive"), S3Settings())


def test_an_object_is_named_by_block_and_hour_of_arrival(place):
    given = [record(8), record(9), record(10), record(11, hour=1)]
    writer(place, Log([record(n) for n in range(8)])).write(batch(given))
    assert object_names(place) == [
        f"{TOPIC}/2024/01/16/00/{TOPIC}+0+0000000000.parquet",
        f"{TOPIC}/2024/01/16/00/{TOPIC}+0+0000000010.parquet",
        f"{TOPIC}/2024/01/16/01/{TOPIC}+0+0000000010.parquet",
    ]


def test_bytes_keys_times_and_headers_are_kept(place):
    given = [
        record(0, value=b"\x00\xff\n{", key=None, headers=[("a", b"1"), ("a", None)]),
        record(1, headers=[("trace", b"\x00\x01")]) | {"value": None},
        record(2, value=b"", key=b""),
        record(3, topic="message-log", partition=7, value=b"x" * 100_000),
    ]
    writer(place, Log([record(n, topic="message-log", partition=7) for n in range(3)])).write(
        batch(given)
    )
    rows = {(row["topic"], row["offset"]): row for row in archived(place)}
    for row in known(given):
        assert rows[row["topic"], row["offset"]] == row


def test_a_backfill_reads_it_with_every_record_in_its_place(place):
    given = [record(n, hour=n // 5, headers=[("n", b"%d" % n)]) for n in range(23)]
    writer(place).write(batch(given))
    found = list_objects(place.child("topics"), ZONE, ALL)
    assert found.broken == []
    rows = []
    for one in found.objects:
        for part in read_object(place.child("topics"), one, 1 << 20):
            rows += part.to_pylist()
            assert {row["arrival_hour"] for row in part.to_pylist()} == {
                datetime.fromtimestamp(one.hour_ms / 1000, UTC)
            }
    assert known(rows) == known(given)
    assert [row["is_line"] for row in rows] == [False] * 23


def test_a_growing_block_is_written_again_whole(place):
    one = writer(place)
    first = one.write(batch(record(n) for n in range(3)))
    second = one.write(batch(record(n) for n in range(3, 7)))
    assert object_names(place) == [f"{TOPIC}/2024/01/16/00/{TOPIC}+0+0000000000.parquet"]
    assert archived(place) == known(record(n) for n in range(7))
    assert (first.rows, second.rows) == (3, 4) and second.size > first.size > 0


def test_what_came_before_changes_nothing(place):
    given = batch(record(n) for n in range(7))
    writer(place).write(given)
    before = {name: place.child("topics").modified(name) for name in object_names(place)}
    again = writer(place).write(given)
    assert again.rows == 7 and again.size == 0
    assert {name: place.child("topics").modified(name) for name in object_names(place)} == before


@pytest.mark.parametrize("cuts", [[7], [1, 1, 1, 1, 1, 1, 1], [3, 4]])
def test_the_bytes_of_an_object_do_not_depend_on_how_it_grew(tmp_path, cuts, monkeypatch):
    monkeypatch.setattr(inside, "GROUP_ROWS", 4)
    monkeypatch.setattr(inside, "GROUP_BYTES", 40)
    whole, grown = (folder(str(tmp_path / name), S3Settings()) for name in ("whole", "grown"))
    given = [record(n, value=b"v" * n) for n in range(7)]
    writer(whole).write(batch(given))
    for cut in cuts:
        writer(grown).write(batch(given[:cut]))
        given = given[cut:]
    (name,) = object_names(whole)
    assert grown.child("topics").read(name) == whole.child("topics").read(name)


def test_row_groups_end_at_a_number_of_rows_or_bytes(place, monkeypatch):
    monkeypatch.setattr(inside, "GROUP_ROWS", 4)
    monkeypatch.setattr(inside, "GROUP_BYTES", 40)
    given = [
        record(n, value=b"v" * size, key=None) for n, size in enumerate((1, 1, 1, 1, 50, 20, 20, 9))
    ]
    writer(place).write(batch(given))
    file = pq.ParquetFile(pa.BufferReader(place.child("topics").read(object_names(place)[0])))
    sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert sizes == [4, 1, 2, 1]
    assert archived(place) == known(given)


def test_several_partitions_of_several_topics_come_in_one_batch(place):
    given = [
        record(n, topic=topic, partition=partition)
        for n in range(4)
        for topic in ("message-gps", "message-log")
        for partition in (1, 0)
    ]
    writer(place).write(batch(given))
    assert archived(place) == known(given)
    assert read_progress(place, "message-log", 1) == Progress(0, 4)


def test_what_lies_between_the_archive_and_a_batch_is_read_from_the_topic(place):
    log = Log([record(n, hour=n // 20) for n in range(60) if n % 11])
    writer(place, log).write(batch(log.records[:10]))
    done = writer(place, log).write(batch(log.records[40:]))
    assert archived(place) == known(log.records)
    assert done.completed == 30
    assert read_progress(place, TOPIC, 0) == Progress(0, 60)


def test_a_new_archive_begins_with_the_block_of_its_first_record(place):
    log = Log([record(n) for n in range(40)])
    writer(place, log).write(batch(log.records[25:]))
    assert archived(place) == known(log.records[20:])
    assert read_progress(place, TOPIC, 0) == Progress(20, 40)


def test_what_retention_took_before_an_archive_began_is_not_lost(place):
    log = Log([record(n) for n in range(23, 40)], {(TOPIC, 0): 23})
    done = writer(place, log).write(batch(log.records[3:]))
    assert archived(place) == known(log.records)
    assert (done.lost, done.completed) == (0, 3)


def test_what_retention_took_before_it_was_archived_is_noted_as_lost(place, caplog):
    log = Log([record(n) for n in range(60)])
    writer(place, log).write(batch(log.records[:15]))
    log.begins[TOPIC, 0] = 32
    with caplog.at_level(logging.ERROR):
        done = writer(place, log).write(batch(log.records[50:]))
    assert "message-gps-0: offsets 15 to 31 are lost" in caplog.text
    assert (done.lost, done.completed) == (17, 18)
    assert archived(place) == known(log.records[:15] + log.records[32:])
    assert read_progress(place, TOPIC, 0) == Progress(0, 60, ((15, 32),))
    assert writer(place, log).write(batch(log.records[50:])).lost == 0


def test_records_that_are_deleted_while_they_are_read_are_looked_for_again(place):
    class Moving(Log):
        def read(self, topic, partition, start, end):
            self.begins[topic, partition] = 5
            return super().read(topic, partition, start, end)

    log = Moving([record(n) for n in range(20)])
    writer(place, log).write(batch([record(0)]))
    done = writer(place, log).write(batch([record(9)]))
    assert (done.lost, done.completed) == (4, 4)
    assert read_progress(place, TOPIC, 0) == Progress(0, 10, ((1, 5),))


def test_what_was_noted_as_lost_and_comes_late_from_another_writer_keeps_the_order(place):
    log = Log([record(n) for n in range(12)])
    late = writer(place, log)
    late.write(batch(log.records[:2]))
    log.begins[TOPIC, 0] = 6
    writer(place, log).write(batch(log.records[8:9]))
    assert read_progress(place, TOPIC, 0) == Progress(0, 9, ((2, 6),))
    late.write(batch(log.records[2:12]))
    assert archived(place) == known(log.records)


def test_a_topic_that_was_made_anew_does_not_mix_with_the_old_one(place):
    writer(place).write(batch(record(n) for n in range(5)))
    other = batch(record(n, hour=0, timestamp=record(n)["timestamp"] + 1) for n in range(5))
    with pytest.raises(DependencyFailed, match=r"offset 0 has the time stamp .*another"):
        writer(place).write(other)
    assert archived(place) == known(record(n) for n in range(5))


class Ending(Log):
    """A log that tells, as Kafka does, when it is asked for what it has not reached."""

    def read(self, topic, partition, start, end):
        if end > max(one["offset"] for one in self.records) + 1:
            raise OffsetsGone(f"{topic}-{partition} ends before")
        return super().read(topic, partition, start, end)


def anew(count, log=Log):
    """A topic that was made again: other records at the same offsets, hours later."""
    return log([record(n, hour=5, value=b"new") for n in range(count)])


@pytest.fixture
def held(place):
    """An archive of offsets 20 to 29, and how to see that it is as it was."""
    given = [record(n) for n in range(20, 30)]
    writer(place).write(batch(given))

    def as_it_was():
        assert archived(place) == known(given)
        assert read_progress(place, TOPIC, 0) == Progress(20, 30)

    return as_it_was


def test_a_topic_that_was_made_anew_and_ends_before_its_archive_is_refused(place, held):
    log = anew(19, Ending)
    with pytest.raises(DependencyFailed, match=r"message-gps-0: .*20 to 29.*ends before.*another"):
        writer(place, log).write(batch(log.records[10:]))
    held()


def test_a_topic_that_was_made_anew_and_outgrew_its_archive_is_refused(place, held):
    log = anew(50, Ending)
    with pytest.raises(DependencyFailed, match=r"gps\+0\+0000000020\.parquet lacks .*29.*another"):
        writer(place, log).write(batch(log.records[40:]))
    held()


def test_a_topic_that_was_made_anew_under_a_running_writer_is_refused(place):
    log = Ending([record(n) for n in range(20, 30)], {(TOPIC, 0): 20})
    one = writer(place, log)
    one.write(batch(log.records))
    given, log.begins = log.records, {}
    log.records = anew(8).records
    with pytest.raises(DependencyFailed, match="made again"):
        one.write(batch(log.records))
    assert archived(place) == known(given)


def test_other_records_where_the_archive_has_all_are_refused_in_any_hour(place, held):
    with pytest.raises(DependencyFailed, match=r"parquet lacks 5 records of offsets 25 to 29"):
        writer(place).write(batch(anew(35).records[25:]))
    held()


def test_a_topic_whose_archived_records_are_all_deleted_is_gone_on_with(place, held):
    log = Ending([record(n) for n in range(20, 40)], {(TOPIC, 0): 30})
    writer(place, log).write(batch(log.records[5:15]))
    assert archived(place) == known(log.records[:15])
    assert read_progress(place, TOPIC, 0) == Progress(20, 35)


def test_a_topic_that_cannot_be_asked_fails_the_batch_and_it_is_written_later(place, held):
    class Away(Log):
        def read(self, topic, partition, start, end):
            raise DependencyFailed("no broker answered")

    given = [record(n) for n in range(30, 33)]
    with pytest.raises(DependencyFailed, match="no broker answered"):
        writer(place, Away()).write(batch(given))
    held()
    writer(place).write(batch(given))
    assert read_progress(place, TOPIC, 0) == Progress(20, 33)


def test_a_topic_is_asked_by_a_new_writer_and_where_records_come_again(place):
    log = Log([record(n) for n in range(30)])
    writer(place, log).write(batch(log.records[:10]))
    one = writer(place, log)
    for begin in (10, 15, 20, 12):
        one.write(batch(log.records[begin : begin + 5]))
    assert log.reads == [(TOPIC, 0, 9, 10), (TOPIC, 0, 24, 25)]


def test_objects_that_were_taken_away_are_written_again_where_that_is_asked_for(place, held):
    (name,) = object_names(place)
    os.remove(f"{place.path}/topics/{name}")
    log = Log([record(n) for n in range(20, 33)])
    with pytest.raises(DependencyFailed, match=r"lacks .*taken .*delete the partition's _state"):
        writer(place, log).write(batch(log.records))
    os.remove(f"{place.path}/_state/archive/{TOPIC}+0.json")
    writer(place, log).write(batch(log.records))
    assert archived(place) == known(log.records)


def test_a_file_in_the_way_is_named_and_kept(place):
    place.write(f"topics/{TOPIC}/2024/01/16/00/{TOPIC}+0+0000000000.parquet", b"not Parquet")
    with pytest.raises(DependencyFailed, match=r"\+0000000000\.parquet cannot be read.*Move it"):
        writer(place).write(batch([record(0)]))
    assert place.read(f"topics/{object_names(place)[0]}").to_pybytes() == b"not Parquet"


def test_one_partition_that_fails_does_not_keep_others_from_being_archived(place):
    place.write(f"topics/{TOPIC}/2024/01/16/00/{TOPIC}+0+0000000000.parquet", b"not Parquet")
    with pytest.raises(DependencyFailed):
        writer(place).write(batch([record(0), record(0, partition=1)]))
    assert [name.rpartition("/")[2] for name in object_names(place)] == [
        f"{TOPIC}+0+0000000000.parquet",
        f"{TOPIC}+1+0000000000.parquet",
    ]
    assert read_progress(place, TOPIC, 0) == Progress(0, 0)
    assert read_progress(place, TOPIC, 1) == Progress(0, 1)


def test_the_old_layout_holds_the_values_as_lines(place, tmp_path):
    old = folder(str(tmp_path / "old"), S3Settings())
    one = writer(place, old=old)
    no_lines = [
        record(4, value=b'{"a":\n1}'),
        record(5) | {"value": None},
        record(6, value=b"\x00\x00\x00\x00\x07avro"),
    ]
    one.write(batch([record(0), record(1), record(2, hour=1)]))
    done = one.write(batch([record(3), *no_lines, record(7)]))
    (first, second) = object_names(old)
    assert first == f"{TOPIC}/2024/01/16/00/{TOPIC}+0+0000000000.json.gz"
    assert second == f"{TOPIC}/2024/01/16/01/{TOPIC}+0+0000000000.json.gz"
    lines = gzip.decompress(old.child("topics").read(first).to_pybytes())
    assert lines == b'{"n":0}\n{"n":1}\n{"n":3}\n{"n":7}\n'
    assert done.left_out == 3
    assert len(archived(place)) == 8
    found = list_objects(old.child("topics"), ZONE, ALL)
    assert found.broken == []
    read = [row for one in found.objects for part in read_object(old.child("topics"), one, 1 << 20)
            for row in part.to_pylist()]  # fmt: skip
    assert sorted(json.loads(row["value"])["n"] for row in read) == [0, 1, 2, 3, 7]


def test_the_old_layout_is_the_same_bytes_whenever_it_is_written(tmp_path):
    written = []
    for name in ("one", "two"):
        place = folder(str(tmp_path / name), S3Settings())
        one = writer(place.child("exact"), old=place.child("old"))
        one.write(batch(record(n) for n in range(5)))
        (found,) = object_names(place.child("old"))
        written.append(place.child("old/topics").read(found).to_pybytes())
    assert written[0] == written[1]


def test_the_old_layout_is_caught_up_where_a_writer_ended_before_it(place, tmp_path):
    old = folder(str(tmp_path / "old"), S3Settings())
    writer(place).write(batch(record(n) for n in range(3)))
    writer(place, old=old).write(batch(record(n) for n in range(3)))
    (name,) = object_names(old)
    assert gzip.decompress(old.child("topics").read(name).to_pybytes()).count(b"\n") == 3


def test_settings_without_a_folder_are_refused():
    with pytest.raises(BadSettings, match=r"sinks\.archive\.folder"):
        archive_writer(ArchiveSettings(), ZONE, KafkaSettings(), S3Settings())


def test_a_full_disk_leaves_nothing_half_and_is_gone_on_from(small_disk):
    archive = folder(f"{small_disk}/archive", S3Settings())
    one = writer(archive)
    one.write(batch([record(0)]))
    filler = small_disk / "filler"
    filler.write_bytes(bytes(free(small_disk) - 16_384))
    large = [record(n, value=noise(n)) for n in range(1, 4)]
    with pytest.raises(DependencyFailed, match=r"archive/topics.*No space left"):
        one.write(batch(large))
    assert archived(archive) == known([record(0)])
    assert [path for path in small_disk.rglob(".*") if path.name != ".lock"] == []
    filler.unlink()
    one.write(batch(large))
    assert archived(archive) == known([record(0), *large])


def noise(seed):
    return random.Random(seed).randbytes(30_000)


def free(path):
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    subprocess.run(command, check=True, capture_output=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True, capture_output=True)
