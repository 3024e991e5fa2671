"""All servers together: up, status, down, and the settings file with their addresses."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import yaml

from connectors.errors import BadArguments
from runners.stack.catalogue import NAMES, NOTE, Choice, Server, build, noted
from runners.stack.processes import Process, require_free, sweep
from runners.stack.servers.bigquery import BigQuery
from runners.stack.servers.elasticsearch import Elasticsearch
from runners.stack.servers.flink import Flink
from runners.stack.servers.postgres import Postgres
from runners.stack.servers.s3 import REGION, S3

SETTINGS = "odograph.yaml"
BUCKETS = ("archive", "lake")
SOON_MS = 10_000
"""How long archive and lake collect rows before they write an object: less than where each object
has a price."""
START_S = 300.0
RUNNING, STOPPED = "running", "stopped"


def up(
    data: Path, cache: Path, wanted: Choice, say: Callable[[str], None] = lambda line: None
) -> dict[str, Server]:
    """Start the wanted servers that do not run yet, wait for them, and write the settings file.

    A server that runs already keeps running, with the ports and sizes it was started with. `say`
    is called with each step. Returns all servers of the data folder by name. Raises BadArguments
    (a port is taken) and DependencyFailed.
    """
    data = data.absolute()
    with _locked(data):
        states = {name: state(server) for name, server in stack(data, cache).items()}
        alive = {name for name, process_state in states.items() if process_state != STOPPED}
        running = {name for name, process_state in states.items() if process_state == RUNNING}
        choice = _merged(noted(data), wanted, alive)
        servers = build(data, cache, choice)
        fresh = [name for name in servers if name in wanted.ports and name not in running]
        for name in fresh:
            if name not in alive:
                require_free(name, servers[name].port, servers[name].span)
        for name in fresh:
            say(f"fetching {name}")
            servers[name].fetch()
        choice.note(data)
        for name in fresh:
            say(f"starting {name}")
            servers[name].start()
        for name in fresh:
            say(f"waiting for {name}")
            servers[name].ready(START_S)
            _make_buckets(servers[name])
        for name in wanted.ports:
            if name in running:
                say(f"{name} is already running")
        (data / SETTINGS).write_text(settings_file(data, servers))
        return servers


def stack(data: Path, cache: Path) -> dict[str, Server]:
    """The servers ever started in this data folder, by name; empty when none was."""
    choice = noted(data.absolute())
    return build(data.absolute(), cache, choice) if choice else {}


def state(server: Server) -> str:
    """`running`, `stopped`, or which of its processes are missing."""
    missing = [process.name for process in server.processes if process.running() is None]
    if not missing:
        return RUNNING
    if len(missing) == len(server.processes):
        return STOPPED
    return f"{', '.join(missing)} missing"


def memory_mb(server: Server) -> int:
    """Resident memory of its processes and their children, in MiB."""
    total = 0
    for process in server.processes:
        running = process.running()
        for part in [running, *running.children(recursive=True)] if running else []:
            try:
                total += part.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    return total >> 20


def down(data: Path, cache: Path, names: Sequence[str] = (), wipe: bool = False) -> list[str]:
    """Stop the servers of these names, or all; with `wipe` also remove their data. Returns the
    names of those that ran.

    Raises BadArguments for a folder that never held a stack.
    """
    data = data.absolute()
    servers = stack(data, cache)
    if not servers:
        raise BadArguments(f"{data}: no stack was ever started here; name its folder with --data")
    chosen = [name for name in reversed(NAMES) if name in servers and name in (names or servers)]
    stopped = []
    for name in chosen:
        if state(servers[name]) != STOPPED:
            stopped.append(name)
        servers[name].stop()
        sweep(servers[name].folder)
    if not names:
        sweep(data)
    if wipe:
        _wipe(data, [servers[name] for name in chosen], all_of_it=not names)
    return stopped


def process_named(servers: dict[str, Server], name: str) -> list[Process]:
    """The processes of the server `name`, or the process of that name. Raises BadArguments."""
    every = [process for server in servers.values() for process in server.processes]
    if name in servers:
        return servers[name].processes
    processes = [process for process in every if process.name == name]
    if not processes:
        known = ", ".join(dict.fromkeys([*servers, *(process.name for process in every)]))
        raise BadArguments(f"{name}: no such server in this stack; it has {known or 'none'}")
    return processes


def settings_file(data: Path, servers: dict[str, Server]) -> str:
    """YAML settings (as docs/config.example.yaml) with the addresses of these servers."""
    settings: dict[str, Any] = {}
    if "kafka" in servers:
        settings["kafka"] = {"bootstrap": servers["kafka"].address}
        settings["topics"] = {
            "single_node": True,
            "partitions": 4,
            "replication": 1,
            "min_insync": 1,
        }
    if "registry" in servers:
        cache = str(data / "schemas")
        settings["registry"] = {"url": servers["registry"].address, "cache": cache}
    database, flink, store = (servers.get(name) for name in ("postgres", "flink", "s3"))
    if isinstance(database, Postgres):
        password = f"file:{database.password_file}"
        settings["bindings_database"] = {"conninfo": database.address, "password": password}
    if isinstance(flink, Flink):
        settings["flink"] = {
            "url": flink.address,
            "checkpoints": flink.checkpoints,
            "savepoints": flink.savepoints,
        }
    if isinstance(store, S3):
        settings["s3"] = {"endpoint": store.address, "region": REGION}
    sinks = _sinks(servers)
    if sinks:
        settings["sinks"] = sinks
    head = "# Written by `odograph stack up`, again each time.\n"
    return head + yaml.safe_dump(settings, sort_keys=False)


def _sinks(servers: dict[str, Server]) -> dict[str, Any]:
    sinks: dict[str, Any] = {}
    search, warehouse = servers.get("elasticsearch"), servers.get("bigquery")
    if "s3" in servers:
        soon = {"rotate_schedule_interval_ms": SOON_MS}
        sinks |= {name: {"folder": f"s3://{name}", **soon} for name in BUCKETS}
    if isinstance(warehouse, BigQuery):
        sinks["bigquery"] = warehouse.settings
    if isinstance(search, Elasticsearch):
        sinks["elasticsearch"] = {"hosts": [search.address], "replicas": 0}
    if "postgres" in servers:
        sinks["state"] = {}
    return sinks


def _make_buckets(server: Server) -> None:
    if isinstance(server, S3):
        for bucket in BUCKETS:
            server.make_bucket(bucket)


def _merged(before: Choice | None, wanted: Choice, alive: set[str]) -> Choice:
    """Servers that are alive keep their ports and sizes; the others get those of `wanted`."""
    if before is None:
        return wanted
    kept = {name: port for name, port in before.ports.items() if name in alive}
    ports = {**before.ports, **wanted.ports, **kept}
    if "flink" in alive or "flink" not in wanted.ports:
        return replace(before, ports=ports)
    return replace(wanted, ports=ports)


def _wipe(data: Path, servers: list[Server], all_of_it: bool) -> None:
    for server in servers:
        shutil.rmtree(server.folder, ignore_errors=True)
    if all_of_it:
        shutil.rmtree(data / "schemas", ignore_errors=True)
        for name in (SETTINGS, NOTE, ".lock"):
            (data / name).unlink(missing_ok=True)
        if not any(data.iterdir()):
            data.rmdir()


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    data.mkdir(parents=True, exist_ok=True)
    with (data / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
