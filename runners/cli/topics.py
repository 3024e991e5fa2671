"""`odograph topics`: comparing the topics of a cluster with the declared ones, changing them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from runners.cli.lazy_group import LazyGroup
from runners.config import load_config

if TYPE_CHECKING:
    from connectors.kafka.topic_changes import Plan

DRIFT = 4


@click.group(cls=LazyGroup, modules={"tail": "runners.cli.topics_tail"})
def topics() -> None:
    """The topics on Kafka: five of terminals, five of vehicles, minutes, and what is set aside."""


def _config_option(command: click.decorators.FC) -> click.decorators.FC:
    text = "YAML settings: kafka and topics."
    option = click.option("--config", "path", type=click.Path(dir_okay=False), help=text)
    return option(command)


@topics.command("plan")
@_config_option
def topics_plan(path: str | None) -> None:
    """Show how the cluster differs from what is declared; change nothing.

    Exit codes: 0 no difference, 4 some.
    """
    from connectors.kafka.topic_changes import plan
    from connectors.kafka.topics import declared

    config = load_config(path)
    wanted = declared(config.topics)
    planned = plan(config.kafka, wanted)
    _warn(planned)
    if not planned.drifts:
        click.echo(f"{len(wanted)} topics are as declared; nothing to do")
        return
    show(planned)
    click.echo("`odograph topics apply` would end with: " + _count(planned))
    sys.exit(DRIFT)


@topics.command("apply")
@_config_option
@click.option(
    "--allow-repartition",
    is_flag=True,
    help="Add partitions to keyed topics, although keys then move and lose their order.",
)
def topics_apply(path: str | None, allow_repartition: bool) -> None:
    """Create topics and change their settings; never delete one.

    Exit codes: 0 the cluster is as declared, 4 something remains to be done by hand.
    """
    from connectors.kafka.topic_changes import BY_HAND, apply
    from connectors.kafka.topics import declared

    config = load_config(path)
    wanted = declared(config.topics)
    done = apply(config.kafka, wanted, allow_repartition)
    _warn(done)
    if not done.drifts:
        click.echo(f"{len(wanted)} topics are as declared; nothing was done")
        return
    show(done)
    left = [drift for drift in done.drifts if drift.action == BY_HAND]
    click.echo(_count(done))
    if left:
        click.echo(f"{len(left)} differences remain, to be done by hand", err=True)
        sys.exit(DRIFT)


def _warn(planned: Plan) -> None:
    for warning in planned.warnings:
        click.echo(f"warning: {warning}", err=True)


def _count(planned: Plan) -> str:
    from connectors.kafka.topic_changes import ALTER, CREATE

    created = {drift.topic for drift in planned.drifts if drift.action == CREATE}
    changed = [drift for drift in planned.drifts if drift.action == ALTER]
    return f"{len(created)} topics created, {len(changed)} settings changed"


def show(planned: Plan) -> None:
    """Print the differences as a table, new topics with equal settings together."""
    from connectors.kafka.topic_changes import CREATE

    table = Table(title="Topics that are not as declared")
    for name in ("topic", "setting", "found", "declared", "to do"):
        table.add_column(name, overflow="fold")
    settings: dict[str, list[str]] = {}
    for drift in planned.drifts:
        if drift.action == CREATE:
            settings.setdefault(drift.topic, []).append(f"{drift.setting}={drift.wanted}")
    alike: dict[str, list[str]] = {}
    for topic, words in settings.items():
        alike.setdefault("\n".join(words), []).append(topic)
    for lines, names in alike.items():
        table.add_row("\n".join(names), "", "absent", lines, CREATE, end_section=True)
    for drift in planned.drifts:
        if drift.action != CREATE:
            todo = f"{drift.action}: {drift.note}" if drift.note else drift.action
            table.add_row(drift.topic, drift.setting, drift.found or "unset", drift.wanted, todo)
    Console(width=None if sys.stdout.isatty() else 110).print(table)
