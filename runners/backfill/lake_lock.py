"""One backfill at a time writes to a local lake, and tidies up after one that was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from connectors.errors import BadArguments
from connectors.storage.folder import Folder, failing

MARK = "_state/running"
SPOOL_PREFIX = "odograph-spool-"


@contextmanager
def lake_lock(lake: Folder, spool: str) -> Iterator[None]:
    """Hold the lake while a run lasts; `spool` is noted, so that the next run can delete it
    where this one is killed.

    Raises BadArguments where another run holds the lake. A bucket cannot be held.
    """
    if not lake.local:
        yield
        return
    path = lake.at(MARK)
    with failing(f"write {path}"):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        mark = open(path, "a+", encoding="utf-8")  # noqa: SIM115  closed below
    with mark:
        with failing(f"lock {path}"):
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadArguments(f"--lake {lake.uri}: another backfill writes to it") from None
        mark.seek(0)
        left = mark.read().strip()
        if left:
            _tidy(lake, left)
        _note(mark, spool)
        try:
            yield
        except BaseException:
            lake.sweep()
            raise
        _note(mark, "")


def _tidy(lake: Folder, spool: str) -> None:
    lake.sweep()
    if os.path.basename(spool).startswith(SPOOL_PREFIX):
        shutil.rmtree(spool, ignore_errors=True)


def _note(mark: IO[str], text: str) -> None:
    mark.seek(0)
    mark.truncate()
    mark.write(text)
    mark.flush()
