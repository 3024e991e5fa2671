"""A Python worker ends with the TaskManager it works for.

A worker whose TaskManager was killed should end by itself, but Beam's log handler and PyFlink's
redirected output can block each other on the way out, and the worker would stay for good.
"""

from __future__ import annotations

import functools
import os
import threading
import time

import psutil

EVERY_S = 1.0


@functools.cache
def end_with_the_task_manager() -> None:
    """Watch the TaskManager from a thread of this worker, once a process."""
    watcher = threading.Thread(target=_watch, args=(_ancestors(),), name="odograph-orphans")
    watcher.daemon = True
    watcher.start()


def _watch(ancestors: tuple[int, ...]) -> None:
    while _ancestors() == ancestors:
        time.sleep(EVERY_S)
    os._exit(1)


def _ancestors() -> tuple[int, ...]:
    """The runner script that started this process and the TaskManager that started that; whoever
    takes their place once they are gone has another number."""
    runner = os.getppid()
    try:
        return runner, psutil.Process(runner).ppid()
    except psutil.NoSuchProcess:
        return (runner,)
