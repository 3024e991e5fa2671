"""What a worker is connected to is what its job's settings say."""

from __future__ import annotations

import pytest

from connectors.kafka.settings import KafkaSettings
from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from pipelines.live.spec import LiveJobSpec
from pipelines.live.worker import WorkerContext
from runners.stack.servers.s3 import REGION

pytestmark = pytest.mark.servers

BINDINGS = b"""\
device_no,vehicle_id,valid_from,valid_to,binding_version
0001,CAR-1,2020-01-01T00:00:00Z,,1
"""


@pytest.fixture
def settings(s3, monkeypatch):
    """How the test's S3 server is reached."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return S3Settings(endpoint=s3.address, region=REGION)


def test_a_bindings_file_is_read_from_the_s3_of_the_job(s3, settings):
    s3.make_bucket("workers")
    folder("s3://workers", settings).write("bindings.csv", BINDINGS)
    live = LiveJobSpec("test", KafkaSettings(), s3=settings, bindings="s3://workers/bindings.csv")
    worker = WorkerContext(live)
    worker.bind()
    _, snapshot = worker.now()
    assert snapshot.bindings.vehicles.to_pylist() == ["CAR-1"]
