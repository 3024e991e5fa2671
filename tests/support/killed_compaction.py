"""Compacts a lake and kills itself: before a merged object is written, after it is, or after so
many of its sources are deleted."""

import itertools
import os
import signal
import sys
from datetime import date, datetime

from connectors.lake.compact import compact
from connectors.storage.folder import Folder, folder
from connectors.storage.settings import S3Settings

uri, step, endpoint, region = sys.argv[1:]
replace, delete = Folder.replace, Folder.delete_version
deleted = itertools.count(1)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def replace_or_die(self: Folder, *args) -> str:
    if step == "before":
        die()
    done = replace(self, *args)
    if step == "replaced":
        die()
    return done


def delete_or_die(self: Folder, name: str, version: str) -> None:
    delete(self, name, version)
    if step == f"deleted {next(deleted)}":
        die()


Folder.replace, Folder.delete_version = replace_or_die, delete_or_die
settings = S3Settings(endpoint=endpoint or None, region=region or None)
compact(folder(uri, settings), date(2024, 2, 1), datetime(2024, 2, 1), 1 << 20)
