"""`odograph stack`: the local stack of real servers."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from connectors.errors import BadArguments
from runners.artefacts.fetch import default_cache
from runners.stack.catalogue import NAMES, PORTS, Choice, Server, build
from runners.stack.processes import Process

FOLLOW_S = 0.3
data_option = click.option(
    "--data",
    default=".odograph",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of all data, logs and the settings file.",
)
names_argument = click.argument("names", nargs=-1, type=click.Choice(NAMES))


@click.group()
def stack() -> None:
    """Real servers on this machine: Kafka, schema registry, Postgres, S3, BigQuery, Elasticsearch,
    a Flink cluster, and proxies that make HTTP go wrong.

    They listen on 127.0.0.1 alone and go on when the command ends; `odograph stack down` ends
    them. What they are made of is fetched once with pip, mvn, go and apt into a cache folder
    (ODOGRAPH_CACHE), pinned and checked.
    """


def port_options(command: click.decorators.FC) -> click.decorators.FC:
    """One option a server: --kafka-port and so on."""
    for name in reversed(NAMES):
        command = click.option(
            f"--{name}-port",
            default=PORTS[name],
            show_default=True,
            type=click.IntRange(1, 65533),
            help="Its first port.",
        )(command)
    return command


@stack.command()
@names_argument
@data_option
@port_options
@click.option(
    "--task-managers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 16),
    help="How many TaskManagers Flink has.",
)
@click.option("--slots", default=8, show_default=True, help="Task slots of each TaskManager.")
@click.option(
    "--task-manager-memory", default="5120m", show_default=True, help="Process memory of each."
)
@click.option("--flink-option", multiple=True, help="KEY=VALUE, any setting of Flink.")
def up(
    names: tuple[str, ...],
    data: Path,
    task_managers: int,
    slots: int,
    task_manager_memory: str,
    flink_option: tuple[str, ...],
    **ports: int,
) -> None:
    """Start NAMES, or all servers, and wait until they work; what runs already is left alone.

    Writes DATA/odograph.yaml, for `--config`.
    """
    from runners.stack.stack import SETTINGS
    from runners.stack.stack import up as start

    options = dict(_option(text) for text in flink_option)
    chosen = {name: ports[f"{name}_port"] for name in names or NAMES}
    wanted = Choice(chosen, task_managers, slots, task_manager_memory, options)
    servers = start(data, default_cache(), wanted, lambda line: click.echo(line, err=True))
    show(servers)
    click.echo(f"settings for --config: {data / SETTINGS}")
    if "s3" in servers:
        credentials = servers["s3"].folder / "credentials"
        click.echo(f"for S3: export AWS_SHARED_CREDENTIALS_FILE={credentials}")


@stack.command()
@data_option
def status(data: Path) -> None:
    """Say which servers run, and where."""
    servers = _servers(data)
    show(servers)
    if not servers:
        click.echo(f"no stack was ever started in {data}")


@stack.command()
@click.argument("name")
@data_option
@click.option(
    "-n",
    "--lines",
    default=50,
    show_default=True,
    type=click.IntRange(min=0),
    help="How many of the last.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted.")
def logs(name: str, data: Path, lines: int, follow: bool) -> None:
    """Print the end of the log of NAME: a server, or one process such as taskmanager-1."""
    from runners.stack.stack import process_named

    processes = process_named(_servers(data), name)
    for process in processes:
        if len(processes) > 1:
            click.echo(f"==> {process.log} <==")
        click.echo(process.last_words(lines))
    if follow:
        _follow(processes)


@stack.command()
@names_argument
@data_option
@click.option("--wipe", is_flag=True, help="Also remove their data.")
def down(names: tuple[str, ...], data: Path, wipe: bool) -> None:
    """Stop NAMES, or all servers; nothing of them is left running."""
    from runners.stack.stack import down as stop

    stopped = stop(data, default_cache(), names, wipe)
    click.echo(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@stack.command()
@names_argument
def fetch(names: tuple[str, ...]) -> None:
    """Fetch what NAMES, or all servers, are made of, and start nothing."""
    cache = default_cache()
    for name, server in build(Path(), cache, Choice(dict.fromkeys(names or NAMES, 1))).items():
        click.echo(f"{name:9} {server.fetch()}")


def show(servers: dict[str, Server]) -> None:
    """A table of the servers: state, address, memory, log."""
    from runners.stack.stack import memory_mb, state

    table = Table()
    for title in ("server", "state", "address", "pid", "MiB"):
        table.add_column(title, justify="right" if title == "MiB" else "left", overflow="fold")
    for name, server in servers.items():
        running = [process.running() for process in server.processes]
        pids = " ".join(str(process.pid) for process in running if process)
        table.add_row(name, state(server), server.address, pids, str(memory_mb(server)))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _servers(data: Path) -> dict[str, Server]:
    from runners.stack.stack import stack as servers_of

    return servers_of(data, default_cache())


def _option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise BadArguments(f"--flink-option {text}: write KEY=VALUE")
    return key, value


def _follow(processes: list[Process]) -> None:
    positions = {process.log: process.log.stat().st_size for process in processes}
    while True:
        for log, position in positions.items():
            with log.open("rb") as source:
                source.seek(position if log.stat().st_size >= position else 0)
                click.echo(source.read().decode(errors="replace"), nl=False)
                positions[log] = source.tell()
        time.sleep(FOLLOW_S)
