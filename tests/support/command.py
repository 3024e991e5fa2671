"""The `odograph` command in this process: the same words, answers and exit codes, without the start
of an interpreter."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from runners.cli.main import main


def odograph(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """How a command ends, given more of an environment."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    command = ["odograph", *map(str, words)]
    given = mock.patch.object(sys, "argv", command), mock.patch.dict(os.environ, environment)
    with given[0], given[1], redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())
