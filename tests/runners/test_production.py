"""What runs in production needs nothing of the development stack (`runners/stack`)."""

from __future__ import annotations

import subprocess
import sys

from runners.flink.environment import flink_python
from tests.repository.files import PACKAGES, ROOT
from tests.repository.test_import_order import imported, python_files

STACK = ("runners.stack", "runners.cli.stack")

REFUSE_STACK = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.startswith({STACK!r}):
            raise AssertionError(name + " is imported")
sys.meta_path.insert(0, Refuse())
"""


def run_without_stack(python, program):
    done = subprocess.run(
        [str(python), "-c", REFUSE_STACK + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_nothing_but_its_own_command_imports_the_stack():
    own = (ROOT / "runners" / "stack", ROOT / "runners" / "cli" / "stack.py")
    assert [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for package in PACKAGES
        for path in python_files(package)
        if not path.is_relative_to(own[0]) and path != own[1]
        for line, name in imported(path)
        if name.startswith(STACK)
    ] == []


def test_jobs_are_submitted_where_there_is_no_stack():
    run_without_stack(
        sys.executable,
        """
import runners.backfill.beam, runners.backfill.flink, runners.backfill.request
import runners.cli.jobs, runners.cli.status, runners.cli.stores, runners.cli.submit
import runners.flink.client, runners.flink.live_job, runners.flink.submit
from runners.cli.main import odograph
for command in ("submit convert", "submit sink bigquery", "submit backfill", "backfill"):
    odograph([*command.split(), "--help"], standalone_mode=False)
""",
    )


def test_jobs_are_built_where_there_is_no_stack():
    run_without_stack(flink_python(), "import runners.backfill.flink_main, runners.flink.live_main")
