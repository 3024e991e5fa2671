"""The report at the end of a backfill: the ledger, on the screen and in a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from connectors.storage.folder import folder
from connectors.storage.settings import S3Settings
from pipelines.backfill.ledger import balances

UNBALANCED = 1


def report(ledger: dict[str, Any], lake: str, path: Path | None) -> None:
    """Write the ledger to the JSON file `path`, if any, and show it; exits with code 1 where it
    does not balance."""
    if path:
        text = json.dumps(ledger, indent=1) + "\n"
        folder(str(path.parent), S3Settings()).write(path.name, text.encode())
    show(ledger, lake)
    if not balances(ledger):
        click.echo("the ledger does not balance: uploads were lost or counted twice", err=True)
        sys.exit(UNBALANCED)


def show(ledger: dict[str, Any], lake: str) -> None:
    """Print the ledger as a table, the broken objects, and the address of the lake."""
    table = Table(title="Ledger: in = good + dead + duplicate + late + filtered (uploads)")
    columns = ("in", "good", "dead", "duplicate", "late", "filtered", "samples")
    for name in ("topic", *columns):
        table.add_column(name, justify="left" if name == "topic" else "right")
    topics: dict[str, dict[str, int]] = {}
    for line in ledger["by"]:
        counts = topics.setdefault(line["topic"], dict.fromkeys(columns, 0))
        for name in columns:
            counts[name] += line[name]
    for topic, counts in [*sorted(topics.items()), ("total", ledger["totals"])]:
        table.add_row(topic, *(f"{counts[name]:,}" for name in columns))
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    objects = ledger["objects"]
    click.echo(f"{objects['read']} objects read, {len(objects['broken'])} broken")
    for broken in objects["broken"]:
        click.echo(f"  broken: {broken['name']}: {broken['reason']}")
    click.echo(f"{ledger['vehicle_minutes']:,} vehicle minutes written; facts lie in {lake}")
