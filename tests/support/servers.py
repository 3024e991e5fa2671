"""Real servers for tests: the stack's own code, on free ports, with temporary data."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from runners.artefacts.fetch import default_cache
from runners.stack.catalogue import Server
from runners.stack.processes import sweep

PREFIX = "odograph-test-"
CACHE = default_cache()
Started = TypeVar("Started", bound=Server)


@contextmanager
def running(server: Started) -> Iterator[Started]:
    """Start a server, wait for it, and stop it on leaving, whatever happens."""
    try:
        server.start()
        server.ready(180)
        yield server
    finally:
        server.stop()
        sweep(server.folder)


@contextmanager
def server_folder() -> Iterator[Path]:
    """A temporary folder for servers. Nothing started in it outlives it; what a test run that was
    killed left behind is killed and removed first."""
    _remove_strays()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o711)
    ours = psutil.Process()
    (folder / "owner").write_text(json.dumps([ours.pid, ours.create_time()]))
    try:
        yield folder
    finally:
        sweep(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_strays() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if folder.stat().st_uid == os.getuid() and not _has_owner(folder):
            sweep(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _has_owner(folder: Path) -> bool:
    try:
        pid, created = json.loads((folder / "owner").read_text())
        return abs(psutil.Process(pid).create_time() - created) < 2
    except FileNotFoundError:
        return True
    except (ValueError, psutil.NoSuchProcess):
        return False
