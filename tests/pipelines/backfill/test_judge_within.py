"""How far back a run looks for uploads it has seen before."""

import gzip
import json

import pytest

from runners.backfill.beam import run_backfill
from runners.config import Config
from tests.support.lakes import spec_of

pytestmark = pytest.mark.days

UPLOAD = {
    "device_no": "0001",
    "type": "log",
    "boot": 1,
    "seq": 1,
    "ts": 1705287600000,
    "timestamp": "2024-01-15T03:00:01GMT",
    "d": {"spd": 7},
}


def put(archive, day, timestamp):
    name = f"topics/message-log/2024/01/{day}/12/message-log+0+0000000000.json.gz"
    path = archive / name
    path.parent.mkdir(parents=True)
    line = json.dumps({**UPLOAD, "timestamp": timestamp}).encode()
    path.write_bytes(gzip.compress(line + b"\n", mtime=0))


@pytest.mark.parametrize(("days", "duplicates"), [(None, 1), (10, 1), (1, 0)])
def test_an_upload_sent_again_days_later_is_known_within_the_bound(tmp_path, days, duplicates):
    bindings = tmp_path / "device_binding.csv"
    bindings.write_text("device_no,vehicle_id,valid_from,valid_to\n0001,V1,2020-01-01T00:00:00Z,\n")
    ledger = {}
    for day, timestamp in (("15", "2024-01-15T03:00:01GMT"), ("19", "2024-01-19T03:00:01GMT")):
        archive = tmp_path / day
        put(archive, day, timestamp)
        config = Config(judge_within_days=days)
        ledger = run_backfill(spec_of(archive, bindings, tmp_path / "lake", config))
    assert ledger["totals"]["duplicate"] == duplicates
