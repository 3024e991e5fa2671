"""Memory does not grow with the archive."""

import subprocess
import sys

import pytest

from runners.simulation.simulator import Scenario, simulate
from tests.support.lakes import ROOT

pytestmark = pytest.mark.days

GROWTH_MIB = 60
PROGRAM = r"""
import re, sys
from pipelines.backfill.spec import BackfillSpec
from runners.backfill.beam import run_backfill
ledger = run_backfill(BackfillSpec(*sys.argv[1:]))
status = open("/proc/self/status").read()
print(ledger["totals"]["in"], int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024)
"""
"""Peak of this program alone: what getrusage says is at least the peak of who started it."""


def uploads_and_peak(folder, hours):
    simulate(folder, Scenario(vehicles=30, hours=hours, seed=2))
    places = [folder / "archive", folder / "device_binding.csv", folder / "lake"]
    command = [sys.executable, "-c", PROGRAM, *map(str, places)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [int(word) for word in ended.stdout.split()]


def test_four_times_the_archive_takes_the_same_memory(tmp_path):
    uploads, peak = uploads_and_peak(tmp_path / "one", 6)
    more_uploads, more_peak = uploads_and_peak(tmp_path / "four", 24)
    assert more_uploads > 3 * uploads
    assert more_peak < peak + GROWTH_MIB
