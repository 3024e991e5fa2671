"""Archive objects as they lie in a real bucket: whole, broken, odd and enormous."""

import gzip
import io
import json
import subprocess
import sys
import zlib

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.archive import read_parquet
from connectors.archive.names import BrokenObject, parse_name
from connectors.archive.read import list_objects, read_object
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from schemas import MESSAGE_TYPES
from tests.repository.files import ROOT
from transforms.decode.avro_container import ContainerBlock

ZONE = "Asia/Seoul"
FOLDER = "message-log/2024/01/15/09"
TEXT = f"{FOLDER}/message-log+3+0000000042.json.gz"
LIMIT = 1000
LINES = [b'{"n": %d}' % number for number in range(5)]
WHOLE = b"".join(line + b"\n" for line in LINES)


class Archive:
    def __init__(self, path):
        self.path = path
        self.topics = folder(str(path / "topics"), S3Settings())

    def put(self, content, name=TEXT):
        self.topics.write(name, content)
        return name

    def read(self, name=TEXT, limit=LIMIT):
        """Values, sizes, and why the object is broken."""
        batches, broken = [], None
        try:
            for batch in read_object(self.topics, parse_name(name, ZONE), limit):
                batches.append(batch)
        except BrokenObject as error:
            broken = str(error)
        return batches, broken

    def lines(self, content, name=TEXT):
        batches, broken = self.read(self.put(content, name))
        rows = [row for batch in batches for row in batch.to_pylist()]
        assert [row["line"] for row in rows] == list(range(len(rows)))
        return [row["value"] for row in rows], broken


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path)


def test_a_line_has_its_place(archive):
    archive.put(gzip.compress(WHOLE))
    (batch,), _ = archive.read()
    row = batch.to_pylist()[4]
    assert (row["topic"], row["partition"], row["object"], row["line"]) == (
        "message-log",
        3,
        TEXT,
        4,
    )
    assert row["arrival_hour"].isoformat() == "2024-01-15T00:00:00+00:00"
    assert row["offset"] is row["timestamp"] is row["size"] is None


@pytest.mark.parametrize(
    "text, lines",
    [
        (WHOLE, 5),
        (WHOLE[:-1], 5),
        (WHOLE.replace(b"\n", b"\r\n"), 5),
        (WHOLE + b"\n", 6),
        (b"\n\n" + WHOLE, 7),
        (b"\n", 1),
        (b"x", 1),
        (b"", 0),
    ],
    ids=["whole", "no newline at the end", "CRLF", "an empty line at the end", "at the beginning",
         "a newline alone", "a letter alone", "nothing"],
)  # fmt: skip
def test_lines(archive, text, lines):
    values, broken = archive.lines(gzip.compress(text))
    assert (len(values), broken) == (lines, None)
    assert b"".join(values) == text


def test_several_gzip_members_are_one_text(archive):
    content = b"".join(gzip.compress(WHOLE[at : at + 7]) for at in range(0, len(WHOLE), 7))
    values, broken = archive.lines(content)
    assert (b"".join(values), len(values), broken) == (WHOLE, 5, None)


def test_an_empty_gzip_member_is_no_text(archive):
    values, broken = archive.lines(gzip.compress(b"") + gzip.compress(WHOLE) + gzip.compress(b""))
    assert (b"".join(values), broken) == (WHOLE, None)


@pytest.mark.parametrize("cut", [1, 8, 9, 20, 5_000])
def test_of_a_gzip_cut_off_the_complete_lines_are_kept(archive, cut):
    text = b"".join(b'{"n": %d}\n' % zlib.crc32(b"%d" % number) for number in range(5000))
    values, broken = archive.lines(gzip.compress(text)[:-cut])
    assert "cut off" in broken
    assert len(values) >= 3000
    assert text.startswith(b"".join(values)) and values[-1].endswith(b"\n")


@pytest.mark.days
def test_a_damaged_gzip_keeps_the_lines_before(archive):
    text = b"".join(b'{"n": %d}\n' % zlib.crc32(b"%d" % number) for number in range(500_000))
    content = bytearray(gzip.compress(text, 1))
    content[-200_000:-199_900] = bytes(100)
    values, broken = archive.lines(bytes(content))
    assert "damaged" in broken
    assert len(values) > 100_000 and text.startswith(b"".join(values[:100_000]))


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "empty"),
        (WHOLE, "not gzip"),
        (b"\x1f", "cut off after 0 bytes"),
        (gzip.compress(WHOLE) + b"rubbish", "after the end"),
        (gzip.compress(WHOLE) + bytes(512), "after the end"),
        (gzip.compress(WHOLE) + gzip.compress(WHOLE)[:12], "cut off"),
        (gzip.compress(WHOLE)[:-8] + bytes(8), "damaged|not gzip"),
    ],
    ids=["empty", "plain", "a byte", "rubbish behind", "zeros behind", "a cut member", "bad check"],
)
def test_broken_gzip_is_reported(archive, content, reason):
    import re

    values, broken = archive.lines(content)
    assert re.search(reason, broken)
    assert b"".join(values) in (b"", WHOLE)


@pytest.mark.parametrize("length", [LIMIT - 1, LIMIT, LIMIT + 1, 5 * LIMIT, 3 << 20, 20 << 20])
@pytest.mark.parametrize("before, after", [(b"", b""), (b"a\n", b"\nb\nc\n")])
def test_a_long_line_is_one_line_of_known_size(archive, length, before, after):
    archive.put(gzip.compress(before + b"x" * length + after, 1))
    batches, broken = archive.read()
    rows = [row for batch in batches for row in batch.to_pylist()]
    at = 1 if before else 0
    assert broken is None
    assert [row["line"] for row in rows] == list(range(len(rows)))
    assert len(rows) == (4 if before else 1)
    assert (rows[at]["size"] or len(rows[at]["value"].rstrip(b"\n"))) == length
    assert rows[at]["value"][:LIMIT].rstrip(b"\n") == b"x" * min(length, LIMIT)
    if before:
        assert [row["value"] for row in rows[2:]] == [b"b\n", b"c\n"]


def test_long_lines_one_after_another(archive):
    sizes = [9 << 20, 1, 12 << 20, 9 << 20, 2]
    archive.put(gzip.compress(b"\n".join(b"x" * size for size in sizes), 1))
    batches, _ = archive.read()
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert [row["size"] or len(row["value"].rstrip(b"\n")) for row in rows] == sizes


BOMB = """
import re, sys
from connectors.archive.names import parse_name
from connectors.archive.read import read_object
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings

def peak_mib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024

topics, before = folder(sys.argv[1], S3Settings()), peak_mib()
sizes = [row["size"] for batch in read_object(topics, parse_name(sys.argv[2], "UTC"), 1 << 20)
         for row in batch.select(["size"]).to_pylist()]
print(sizes[0], peak_mib() - before)
"""


@pytest.mark.days
def test_a_gzip_bomb_of_one_line_takes_bounded_memory(archive):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    archive.put(b"".join([*(packer.compress(zeros) for _ in range(600)), packer.flush()]))
    command = [sys.executable, "-c", BOMB, archive.topics.path, TEXT]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    size, grown_mib = map(int, ended.stdout.split())
    assert size == 600 << 20
    assert grown_mib < 100


def test_an_object_that_expands_without_end_is_broken(archive, monkeypatch):
    monkeypatch.setattr("connectors.archive.read.MAX_EXPANDED_BYTES", 1 << 20)
    archive.put(gzip.compress(b"x\n" * (4 << 20)))
    _, broken = archive.read()
    assert "expands to more than" in broken


@pytest.mark.parametrize("extension", ["json", "csa", "txt"])
def test_plain_text(archive, extension):
    name = f"{FOLDER}/message-log+3+42.{extension}"
    assert archive.lines(WHOLE, name) == ([line + b"\n" for line in LINES], None)


@pytest.mark.parametrize(
    "name, block",
    [
        (TEXT, "2024011509-0000000042"),
        (f"{FOLDER}/message-log+3+42.csa.gz", "2024011509-42-csa-gz"),
        ("a.b_c/year=2024/month=01/day=15/hour=09/a.b_c+0+7.avro", "2024011509-7-avro"),
        ("m/2024/12/31/23/m+0+12345678901234567.parquet", "2024123123-12345678901234567-parquet"),
    ],
)  # fmt: skip
def test_names(name, block):
    one = parse_name(name, ZONE)
    assert one.block == block
    assert one.lake_name == f"{one.topic}+{one.partition}+{block}.parquet"


@pytest.mark.parametrize(
    "name",
    [
        "message-log+3+42.json.gz",
        "message-log/2024/01/15/message-log+3+42.json.gz",
        f"{FOLDER}/message-log+3.json.gz",
        f"{FOLDER}/message-log+x+42.json.gz",
        f"{FOLDER}/message-log+3+42.json.bz2",
        f"{FOLDER}/message-gps+3+42.json.gz",
        f"{FOLDER}/message-log+3+42.json.gz.tmp",
        f"{FOLDER}/more/message-log+3+42.json.gz",
        "message-log/2024/13/15/09/message-log+3+42.json.gz",
        "message-log/2024/02/30/09/message-log+3+42.json.gz",
        "message-log/2024/01/15/24/message-log+3+42.json.gz",
        f"{FOLDER}/message-log+3+99999999999999999999.json.gz",
    ],
)
def test_other_names_are_broken_objects(archive, name):
    archive.put(WHOLE, name)
    archive.put(gzip.compress(WHOLE))
    listing = list_objects(archive.topics, ZONE, frozenset(MESSAGE_TYPES))
    assert [one.name for one in listing.objects] == [TEXT]
    assert [broken for broken, _ in listing.broken] == [name]


def test_hidden_files_are_nobodys(archive):
    archive.put(WHOLE, f"{FOLDER}/.message-log+3+42.json.gz.1234")
    listing = list_objects(archive.topics, ZONE, frozenset(MESSAGE_TYPES))
    assert (listing.objects, listing.broken) == ([], [])


PARQUET = f"{FOLDER}/message-log+3+42.parquet"


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def test_parquet_of_exact_bytes(archive):
    count = 20_000
    table = pa.table(
        {
            "topic": pa.array(["message-log"] * count).dictionary_encode(),
            "partition": pa.array([3] * count, pa.int64()),
            "offset": pa.array(range(42, 42 + count)),
            "timestamp": pa.array([1705300000123456] * count, pa.timestamp("us", "UTC")),
            "key": pa.array(["0102"] * count),
            "value": pa.array([b"tomb", None] * (count // 2), pa.binary()).dictionary_encode(),
            "unknown": pa.array([1] * count),
        }
    )
    archive.put(parquet(table, row_group_size=3000), PARQUET)
    batches, broken = archive.read(PARQUET)
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert broken is None and len(rows) == count
    assert [row["line"] for row in rows] == list(range(count))
    assert [row["offset"] for row in rows] == list(range(42, 42 + count))
    assert [row["value"] for row in rows[:2]] == [b"tomb", None]
    assert rows[0]["key"] == b"0102" and rows[0]["timestamp"].microsecond == 123_000


@pytest.mark.parametrize("column", ["topic", "partition", "offset", "value"])
def test_parquet_without_a_column_it_needs_is_broken(archive, column):
    table = pa.table({"topic": ["m"], "partition": [3], "offset": [1], "value": [b"v"]})
    archive.put(parquet(table.drop_columns([column])), PARQUET)
    assert archive.read(PARQUET) == ([], f"lacks the columns ['{column}']")


@pytest.mark.parametrize(
    "columns",
    [
        {"partition": ["three"]},
        {"offset": ["x"]},
        {"value": [7]},
        {"value": [[b"v"]]},
        {"partition": [1 << 40]},
    ],
    ids=lambda columns: f"{next(iter(columns))} {next(iter(columns.values()))}"[:30],
)
def test_parquet_with_columns_of_other_kinds_is_broken(archive, columns):
    sound = {"topic": ["message-log"], "partition": [3], "offset": [1], "value": [b"v"]}
    archive.put(parquet(pa.table(sound | columns)), PARQUET)
    batches, broken = archive.read(PARQUET)
    assert batches == [] and next(iter(columns)) in broken


PAIRS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))


@pytest.mark.parametrize(
    ("column", "theirs", "ours"),
    [
        ("timestamp", pa.array(["yesterday"]), None),
        ("headers", pa.array(["x"]), None),
        ("headers", pa.array([[{"key": "a", "value": b"1"}]], PAIRS), [("a", b"1")]),
        ("headers", pa.array([None], PAIRS), []),
        ("headers", pa.array([[["a", "b"]]]), None),
        ("key", pa.array([1001]), b"1001"),
        ("key", pa.array(["1001"]), b"1001"),
        ("key", pa.array([[1]]), None),
    ],
)
def test_what_parquet_of_others_has_beside_the_messages_is_taken_or_left(
    archive, column, theirs, ours
):
    sound = {"topic": ["message-log"], "partition": [3], "offset": [1], "value": [b"v"]}
    archive.put(parquet(pa.table(sound | {column: theirs})), PARQUET)
    (batch,), broken = archive.read(PARQUET)
    (row,) = batch.to_pylist()
    assert broken is None
    assert (row["value"], row[column]) == (b"v", ours)


def test_of_a_column_that_parquet_has_twice_the_first_is_read(archive):
    names = ["topic", "partition", "offset", "value", "key", "key"]
    arrays = [["message-log"], [3], [1], [b"v"], [b"first"], [b"second"]]
    archive.put(parquet(pa.table([pa.array(one) for one in arrays], names=names)), PARQUET)
    (batch,), broken = archive.read(PARQUET)
    assert broken is None
    assert batch.column("key").to_pylist() == [b"first"]


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("column", ["value", "key"])
def test_a_batch_of_parquet_is_bounded_by_bytes(archive, monkeypatch, column, dictionary):
    monkeypatch.setattr(read_parquet, "BATCH_BYTES", 1 << 20)
    monkeypatch.setattr(read_parquet, "FEWEST_ROWS", 1)
    count, large = 500, b"x" * 50_000
    sound = {"topic": ["m"] * count, "partition": [3] * count, "offset": range(count)}
    columns = sound | {"value": [b"%d" % at for at in range(count)]} | {column: [large] * count}
    archive.put(parquet(pa.table(columns), use_dictionary=dictionary), PARQUET)
    batches, broken = archive.read(PARQUET)
    assert broken is None
    assert sum(batch.num_rows for batch in batches) == count
    assert max(batch.nbytes for batch in batches) < 3 << 20
    assert [row for batch in batches for row in batch.column("line").to_pylist()] == [*range(count)]


def test_a_parquet_row_without_a_place_has_that_of_the_object(archive):
    nothing = {"topic": pa.nulls(1), "partition": pa.nulls(1), "offset": pa.nulls(1)}
    archive.put(parquet(pa.table({**nothing, "value": [b"v"]})), PARQUET)
    (batch,), _ = archive.read(PARQUET)
    row = batch.to_pylist()[0]
    assert (row["topic"], row["partition"], row["offset"]) == ("message-log", 3, None)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_broken(archive, content):
    archive.put(content, PARQUET)
    batches, broken = archive.read(PARQUET)
    assert batches == [] and "not readable as Parquet" in broken


def test_damaged_parquet_keeps_the_rows_before(archive):
    count = 100_000
    values = [b"%d" % zlib.crc32(b"%d" % n) for n in range(count)]
    table = pa.table(
        {"topic": ["m"] * count, "partition": [3] * count, "offset": range(count), "value": values}
    )
    content = bytearray(parquet(table, row_group_size=20_000, compression="zstd"))
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
    archive.put(bytes(content), PARQUET)
    batches, broken = archive.read(PARQUET)
    assert "damaged after" in broken
    read = [row for batch in batches for row in batch.column("value").to_pylist()]
    assert 10_000 < len(read) < count and read == values[: len(read)]


AVRO = f"{FOLDER}/message-log+3+42.avro"
SCHEMA = {
    "type": "record",
    "name": "message_log",
    "fields": [{"name": "device_no", "type": "string"}, {"name": "seq", "type": "long"}],
}
RECORDS = [{"device_no": f"{number:04d}", "seq": number} for number in range(3000)]


def container(codec):
    sink = io.BytesIO()
    fastavro.writer(sink, SCHEMA, RECORDS, codec=codec, sync_interval=4000)
    return sink.getvalue()


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_avro_containers_with_codecs(archive, codec):
    archive.put(container(codec), AVRO)
    blocks, broken = archive.read(AVRO)
    assert broken is None and all(isinstance(block, ContainerBlock) for block in blocks)
    assert sum(block.count for block in blocks) == 3000 and len(blocks) > 3
    assert blocks[1].first_line == blocks[0].count
    assert json.loads(json.dumps(blocks[0].writer))["name"] == "message_log"


def test_a_container_cut_off_keeps_the_blocks_before(archive):
    archive.put(container("deflate")[:-3000], AVRO)
    blocks, broken = archive.read(AVRO)
    assert "damaged after" in broken and sum(block.count for block in blocks) > 1000


@pytest.mark.parametrize("content", [b"", b"Obj\x01", b"rubbish" * 9, container("null")[:60]])
def test_what_is_no_container_is_broken(archive, content):
    archive.put(content, AVRO)
    blocks, broken = archive.read(AVRO)
    assert blocks == [] and broken
