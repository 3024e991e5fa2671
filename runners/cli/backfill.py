"""`odograph backfill`: an archive, or the device topics, into lake tables and stores."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from runners.backfill.request import source
from runners.cli.backfill_options import BackfillOptions, backfill_options
from runners.config import load_config
from runners.progress import bar, console

OFFSETS = "Only topic:partition=first..last,… of --kafka, widened to whole blocks of 20,000."


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--archive", help="Folder or s3:// prefix that holds topics/.")
@click.option("--kafka", "brokers", help="Read the device topics at host:port,… instead.")
@click.option("--offsets", help=OFFSETS)
@backfill_options
@click.option("--runner", default="DirectRunner", show_default=True, help="Any Beam runner.")
@click.argument("beam_args", nargs=-1, type=click.UNPROCESSED)
def backfill(
    options: BackfillOptions,
    archive: str | None,
    brokers: str | None,
    offsets: str | None,
    runner: str,
    beam_args: tuple[str, ...],
) -> None:
    """Turn an archive of device messages, or the device topics themselves, into lake tables.

    Running it again, over parts, or in another order gives the same tables. Options it does not
    know go to Beam, such as --direct_num_workers 2 --direct_running_mode multi_processing.
    """
    config = load_config(options.config_path)
    with quiet():
        from runners.backfill.beam import run_backfill
        from runners.cli.ledger_report import report
    spec = options.spec(config, *source(archive, brokers, offsets, config))
    with watching() as watch:
        ledger = run_backfill(spec, ["--runner", runner, *beam_args], watch)
    report(ledger, options.lake, options.ledger)


@contextmanager
def quiet() -> Iterator[None]:
    """Import Beam without its warning that Google's libraries are absent, and keep its runners
    from logging an error that is raised as well."""
    logging.getLogger("apache_beam.runners").setLevel(logging.CRITICAL)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def watching() -> Iterator[Any]:
    """Progress of a running job on a terminal: objects read so far, seen in the spool."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(objects: int, spool: str) -> None:
        if not console.is_terminal or not os.path.isdir(spool):
            return

        def follow() -> None:
            with bar(f"{objects} objects", objects) as advance:
                most = 0
                while not stop.wait(0.5):
                    most = max(most, len(os.listdir(spool)) if os.path.isdir(spool) else 0)
                    advance(most)

        threads.append(threading.Thread(target=follow, daemon=True))
        threads[-1].start()

    try:
        yield start
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=2)
