"""The S3 server of the tests is a real one."""

import pyarrow.fs as fs
import pytest

from tests.support.s3 import S3Server, s3_server

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def server():
    with s3_server() as running:
        yield running


def connect(server: S3Server, secret: str) -> fs.S3FileSystem:
    return fs.S3FileSystem(
        access_key=server.key,
        secret_key=secret,
        endpoint_override=server.endpoint.removeprefix("http://"),
        scheme="http",
        region=server.region,
        allow_bucket_creation=True,
    )


def test_what_is_written_is_read_and_listed(server):
    bucket = connect(server, server.secret)
    bucket.create_dir("lake")
    with bucket.open_output_stream("lake/date=2024-01-15/one.parquet") as target:
        target.write(b"facts")
    with bucket.open_input_stream("lake/date=2024-01-15/one.parquet") as source:
        assert source.read() == b"facts"
    listed = bucket.get_file_info(fs.FileSelector("lake", recursive=True))
    assert [info.path for info in listed if info.is_file] == ["lake/date=2024-01-15/one.parquet"]


def test_a_wrong_secret_is_refused(server):
    with pytest.raises(OSError, match=r"ACCESS_DENIED|SignatureDoesNotMatch|403"):
        connect(server, "wrong").create_dir("stranger")
